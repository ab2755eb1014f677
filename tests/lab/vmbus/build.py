"""The VMBus module for a guest's kernel, and the distribution's drivers made ready for it.

Built in a throw-away Debian tree with that kernel's headers, from the same mirror as everything
else, and kept in the cache by source and kernel: only a changed source or a new kernel needs a
compiler, and that is Debian's own of the kernel, whatever the host is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.lab import archive, cache, image
from tests.lab.debian import SUITES, Apt
from tests.lab.errors import HeadersGone, LabError, Unreachable

SOURCE = Path(__file__).resolve().parent / "module"
_RECIPE = 1  # part of the key: raise it when build() changes
_DRIVERS = re.compile(r".*/(?:hv_vmbus|hv_netvsc|uio_hv_generic)\.ko")
_COMPILER = ("make", "binutils")


def modules(kernel: image.Kernel, apt: Apt | None = None) -> dict[str, bytes]:
    """Files for the guest, to be laid over its modules; HeadersGone when it cannot be built."""
    apt = apt or Apt()
    source = {p.name: p.read_text() for p in sorted(SOURCE.iterdir())}
    key = f"{kernel.version}-{cache.key_of(_RECIPE, source, kernel.release)}"

    def build(into: Path) -> None:
        cache.say(f"building the VMBus for kernel {kernel.version} (a minute)")
        with tempfile.TemporaryDirectory(prefix="manactl-vmbus-") as temp:
            _build(kernel, apt, Path(temp))
            shutil.copytree(Path(temp) / "out", into, dirs_exist_ok=True)

    made = cache.artefact("vmbus", key, build)
    top = Path("usr/lib/modules") / kernel.release
    found = (path for path in made.rglob("*.ko"))
    return {str(top / path.relative_to(made)): path.read_bytes() for path in found}


def _build(kernel: image.Kernel, apt: Apt, work: Path) -> None:
    headers = f"linux-headers-{kernel.release}"
    if not apt.has(headers):
        raise HeadersGone(headers, apt.mirror.uri)
    module = work / "module"
    shutil.copytree(SOURCE, module)
    with kernel.modules.open("rb") as source:
        for name, data in archive.members(source):
            if _DRIVERS.fullmatch(name):
                path = module / "drivers" / name.split(f"/{kernel.release}/")[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    work.chmod(0o755)
    options = work / "apt.conf"
    options.write_text(apt.network_configuration())
    argv = ["mmdebstrap", "--variant=apt", "--architectures=amd64", "--quiet"]
    argv += [f"--aptopt={options}", f"--include={','.join((headers, *_COMPILER))}"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("man", "doc", "locale", "info")]
    argv += [f"--customize-hook=copy-in {module} /"]
    argv += [f'--customize-hook=chroot "$1" sh /module/build.sh {kernel.release} >&2']
    argv += [f"--customize-hook=copy-out /module/out {work}"]
    argv += [SUITES[0], "/dev/null", *(apt.mirror.source(suite) for suite in SUITES)]
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(
        argv, check=False, text=True, capture_output=True, env=dict(os.environ, PATH=search)
    )
    if done.returncode:
        text = done.stderr.strip()
        if re.search(r"Unable to fetch|Failed to fetch|Could not (?:connect|resolve)", text):
            raise Unreachable(f"mmdebstrap failed:\n{text}")
        raise LabError(f"the VMBus could not be built for {kernel.version}:\n{text}")

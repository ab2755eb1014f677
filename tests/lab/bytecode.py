"""The checkout, compiled by the guest's own Python on the host.

An emulated CPU compiles manactl for five seconds, and each guest would do so at its first run. The
interpreter of the guest's suite is unpacked in the cache and started through its own dynamic
loader, as QEMU is (qemu.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import cache
from .debian import SUITE, Apt, unpack
from .errors import LabError

PACKAGES = ("python3-minimal", "libpython3-stdlib")
# What all sources in the guest have: bytecode is valid for a time and a size of its source
# (importlib._bootstrap_external), and a clone has other times each time. A file that a test
# changes in the guest has a newer one, and is compiled there.
MTIME = 1
_RECIPE = 1  # part of both keys: raise it when what is built changes


def interpreter(apt: Apt | None = None) -> list[str]:
    """The first words of a command line for the Python of the guest; unpacked when needed."""
    apt = apt or Apt()
    files = apt.closure(PACKAGES)

    def build(into: Path) -> None:
        cache.say(f"unpacking the guest's Python ({len(files)} packages)")
        debs = into / "debs"
        for deb in apt.fetch_closure(PACKAGES, SUITE, debs):
            unpack(deb, into)
        shutil.rmtree(debs)

    top = cache.artefact("python", cache.key_of(_RECIPE, files), build)
    (program,) = top.glob("usr/bin/python3.[0-9]*")
    library = top / "usr/lib/x86_64-linux-gnu"
    return [str(library / "ld-linux-x86-64.so.2"), "--library-path", str(library), str(program)]


def compiled(top: Path, under: str, apt: Apt | None = None) -> dict[str, bytes]:
    """Bytecode of the modules below `top`, by its path below the root of the guest.

    `under` is the place of `top` in the guest, which tracebacks name. What is equal is compiled once.
    """
    sources = {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*.py"))
        if "__pycache__" not in path.parts
    }
    python = interpreter(apt)
    key = cache.key_of(
        _RECIPE, python, under, [(name, data.hex()) for name, data in sources.items()]
    )

    def build(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="manactl-bytecode-") as temp:
            place = Path(temp) / under
            for name, data in sources.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)
                os.utime(place / name, (MTIME, MTIME))
            _compile(python, temp, place)
            for path in place.rglob("*.pyc"):
                (into / path.relative_to(place)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, into / path.relative_to(place))

    made = cache.artefact("bytecode", key, build)
    return {f"{under}/{path.relative_to(made)}": path.read_bytes() for path in made.rglob("*.pyc")}


def _compile(python: list[str], root: str, place: Path) -> None:
    argv = [*python, "-m", "compileall", "-q", "-s", root, "-p", "/"]
    argv += ["--invalidation-mode", "timestamp", str(place)]
    # Else the standard library is looked for beside the program, which is the loader here.
    environment = {"PYTHONHOME": str(Path(python[-1]).parents[1])}
    done = subprocess.run(argv, check=False, text=True, capture_output=True, env=environment)
    if done.returncode:
        raise LabError(f"the guest's Python could not compile:\n{done.stdout}{done.stderr}")

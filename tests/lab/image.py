"""What the guest boots: kernel, modules, Debian tree, and the checkout laid over them.

Three cpio archives make up the initramfs. The tree (Debian trixie with Python, rdma-core, DPDK)
and each kernel's modules are built once and cached; the overlay, with the checkout under test, is
made again for every VM in some milliseconds.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import other_words

from . import archive, bytecode, cache
from .debian import SUITE, Apt, unpack
from .errors import LabError, Unreachable

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
GUEST_CHECKOUT = "manactl"  # directory of the checkout in the guest's root

PACKAGES = (
    *("python3", "python3-pyverbs", "python3-click", "python3-rich", "python3-pyroute2"),
    *("rdma-core", "ibverbs-providers", "ibverbs-utils", "iproute2", "ethtool", "iputils-ping"),
    *("kmod", "procps", "strace", "jq", "busybox-static", "man-db", "less", "pciutils"),
    *("nftables", "wireguard-tools"),
    *("dpdk", "dpdk-dev", "librte-net-mana25", "librte-mempool-ring25"),
)
# On top of them, for the tree that systemd boots: what owns the network on Azure's images.
SYSTEMD_PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "network-manager", "netplan.io", "cloud-init"),
    *("dnsmasq-base", "openssh-server"),
)
# manactl as a person in the guest types it.
_COMMAND = b'#!/bin/sh\nPYTHONPATH=/manactl/src exec python3 -m manactl "$@"\n'
_TREE_RECIPE = 4  # part of the key: raise it when tree() changes
_MODULES_RECIPE = 1
# Nothing in the guest reads these, a fifth of the tree; each boot unpacks what is left.
_LEFT_OUT = re.compile(
    r"dev/.*|.*/gconv/.*|.*\.a|usr/include/.*|usr/share/(?:i18n|gcc|common-licenses)/.*|"
    r".*/libIPSec_MB\..*|.*/pyverbs/providers/(?:mlx5|efa)/.*|.*/psutil/tests/.*|"
    r".*/pygments/(?:lexers|formatters|styles)/(?:__pycache__/)?(?!_|terminal).*|"
    r".*/pygments/lexers/(?:__pycache__/)?_(?!_init|mapping).*|"
    r"usr/lib/python3\.\d+/(?:test|pydoc_data|idlelib|lib2to3|turtledemo|ensurepip)/.*|"
    r"usr/bin/perl.*|.*/perl-base/.*"
)

# Drivers of the device and what tests put on top of it or look at it with; dependencies follow.
MODULES = re.compile(
    r"mana|mana_ib|ib_(?:core|uverbs|umad|cm|ipoib)|iw_cm|rdma_(?:cm|ucm)|"
    r"veth|dummy|bonding|8021q|macvlan|ipvlan|bridge|vrf|tun|tap|vxlan|ifb|team|"
    r".*_diag|sch_.*|cls_(?:u32|matchall|flower|bpf)|act_(?:mirred|gact)|"
    r"virtio_blk|ext4|overlay|squashfs|uio|uio_hv_generic|uio_pci_generic|"
    r"hv_(?:vmbus|utils|netvsc)|nf_tables|nft_(?:ct|nat|masq|chain_nat|fwd_netdev|dup_netdev)|nf_dup_netdev|xfrm_user|"
    r"crc32c_(?:generic|intel)|libcrc32c|af_packet|"
    r"ip_gre|ip6_gre|ipip|sit|ip6_tunnel|ip_vti|geneve|wireguard|xfrm_interface|esp4|authenc|ecb|crypto_null|l2tp_.*|"
    r"sctp|team_mode_.*|macsec|openvswitch|netconsole|nf_conntrack(?:_netlink)?"
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel ready to boot: `modules` is a cpio archive for its release."""

    version: str
    release: str
    vmlinuz: Path
    modules: Path


def kernel(prefix: str, apt: Apt | None = None) -> Kernel:
    """The newest cloud kernel of version `prefix`; KernelGone when the mirror has none."""
    apt = apt or Apt()
    version, packages = apt.kernel_packages(prefix)
    key = f"{version}-{cache.key_of(_MODULES_RECIPE, MODULES.pattern, apt.versions(packages))}"

    def build(into: Path) -> None:
        cache.say(f"fetching kernel {version}")
        with tempfile.TemporaryDirectory(dir=into) as temp:
            work = Path(temp)
            for deb in apt.fetch(packages, work / "debs"):
                unpack(deb, work / "root")
            _build_kernel(work / "root", into)

    made = cache.artefact("kernel", key, build)
    release = (made / "release").read_text()
    return Kernel(version, release, made / "vmlinuz", made / "modules.cpio")


def _build_kernel(root: Path, into: Path) -> None:
    if not (root / "lib").exists():  # depmod looks below /lib
        (root / "lib").symlink_to("usr/lib")
    modules = root / "lib/modules"
    (release,) = [p.name for p in modules.iterdir() if p.is_dir()]
    images = [*root.glob("boot/vmlinuz-*"), *modules.glob("*/vmlinuz")]
    shutil.copy(images[0], into / "vmlinuz")
    _depmod(root, release)
    top = modules / release
    trimmed = root / "trimmed"
    kept = trimmed / "lib/modules" / release
    for path in _wanted((top / "modules.dep").read_text()):
        _decompress(top / path, kept / path)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if (top / name).exists():
            shutil.copy(top / name, kept / name)
    _depmod(trimmed, release)
    with (into / "modules.cpio").open("wb") as out, archive.Cpio(out) as cpio:
        cpio.tree(kept, f"usr/lib/modules/{release}", lambda _: True)
    (into / "release").write_text(release)


def _depmod(root: Path, release: str) -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    subprocess.run(["depmod", "-b", root, release], check=True, env=dict(os.environ, PATH=path))


def _name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _wanted(dep: str) -> list[str]:
    """Paths, from the text of modules.dep, of MODULES and all that they depend on."""
    needs = {line.split(":")[0]: line.split(":")[1].split() for line in dep.splitlines()}
    todo = [path for path in needs if MODULES.fullmatch(_name(path))]
    seen: set[str] = set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += needs[path]
    return sorted(seen)


def _decompress(source: Path, target: Path) -> None:
    """Modules go in plain: unpacking them in the emulated guest would take longer."""
    target = target.with_suffix("") if target.suffix == ".xz" else target
    target.parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    target.write_bytes(lzma.decompress(data) if source.suffix == ".xz" else data)


def tree(apt: Apt | None = None, *, systemd: bool = False) -> Path:
    """The guest's Debian tree as a cpio archive, made by mmdebstrap when needed.

    With `systemd` the other one, which systemd boots; it has all that the first one has.
    """
    apt = apt or Apt()
    packages = (*PACKAGES, *SYSTEMD_PACKAGES) if systemd else PACKAGES
    hook = (HERE / "guest_init/customize").read_text()
    key = cache.key_of(_TREE_RECIPE, packages, hook, apt.closure(packages))

    def build(into: Path) -> None:
        which = "Debian tree with systemd (a minute)" if systemd else "Debian tree (half a minute)"
        cache.say(f"building the guest's {which}")
        with tempfile.TemporaryDirectory(prefix="manactl-tree-") as temp:
            tar = Path(temp) / "tree.tar"
            _mmdebstrap(apt, tar, packages)
            with tar.open("rb") as source, (into / "tree.cpio").open("wb") as out:
                archive.from_tar(source, out, lambda name: not _LEFT_OUT.fullmatch(name))

    return cache.artefact("tree", key, build) / "tree.cpio"


def _mmdebstrap(apt: Apt, tar: Path, packages: Sequence[str]) -> None:
    """Root unpacks as itself, anybody else in a user namespace (uidmap, /etc/subuid)."""
    options = tar.with_suffix(".conf")
    options.write_text(apt.network_configuration())
    tar.parent.chmod(0o755)
    argv = ["mmdebstrap", "--variant=essential", "--architectures=amd64", "--quiet"]
    argv += ["--aptopt=" + str(options), f"--include={','.join(packages)}"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("man", "doc", "locale", "info")]
    argv += [f"--customize-hook={HERE}/guest_init/customize", SUITE, str(tar)]
    argv += [apt.mirror.source(SUITE)]
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for attempt in (1, 2, 3):
        done = subprocess.run(
            argv, check=False, text=True, capture_output=True, env=dict(os.environ, PATH=path)
        )
        if done.returncode == 0:
            return
        cache.say(f"mmdebstrap failed (attempt {attempt} of 3)")
        tar.unlink(missing_ok=True)
    text = done.stderr.strip()
    if re.search(r"unshare|newuidmap|subuid|namespace", text):
        raise LabError(
            "mmdebstrap cannot make a user namespace here; it needs uidmap, a range in /etc/subuid "
            f"and /etc/subgid for this user, and a kernel that allows it (or run as root):\n{text}"
        )
    raise Unreachable(f"mmdebstrap failed:\n{text}")


def overlay(extra: dict[str, bytes] | None = None) -> bytes:
    """The archive that is laid over the tree: /init, the agent, the checkout, `extra` files."""
    out = io.BytesIO()
    with archive.Cpio(out) as cpio:
        for top in ("proc", "sys", "dev", "run", "tmp", "var/lib"):
            cpio.parents(f"{top}/")
        cpio.char_device("dev/console", 0o600, 5, 1)
        cpio.file("init", (HERE / "guest_init/init").read_bytes(), 0o755)
        cpio.file("etc/hostname", b"mana-lab\n")
        cpio.file("etc/hosts", b"127.0.0.1 localhost mana-lab\n::1 localhost\n")
        cpio.file("etc/resolv.conf", b"")
        source, src = f"{GUEST_CHECKOUT}/src", _src()
        cpio.tree(src, source, _source, bytecode.MTIME)
        for path, data in bytecode.compiled(src, source).items():
            cpio.file(path, data)
        for name in ("guest", "guest_init"):
            place = f"{GUEST_CHECKOUT}/tests/lab/{name}"
            cpio.tree(HERE / name, place, _source, bytecode.MTIME)
            for path, data in bytecode.compiled(HERE / name, place).items():
                cpio.file(path, data)
        cpio.tree(CHECKOUT / "completions", f"{GUEST_CHECKOUT}/completions", _source)
        cpio.file("usr/local/bin/manactl", _COMMAND, 0o755)
        for page in sorted((CHECKOUT / "man").glob("*.[1-9]")):
            for place in (f"{GUEST_CHECKOUT}/man", f"usr/local/share/man/man{page.suffix[1:]}"):
                cpio.file(f"{place}/{page.name}", page.read_bytes())
        for path, data in (extra or {}).items():
            # NetworkManager does not read a profile that others may read.
            cpio.file(path.lstrip("/"), data, 0o600 if "/system-connections/" in path else 0o644)
    return out.getvalue()


def _src() -> Path:
    """The source of manactl: the checkout's, or by MANACTL_WORDS the same with other words."""
    mode, src = os.environ.get("MANACTL_WORDS", "plain"), CHECKOUT / "src"
    if mode == "plain":
        return src
    files = sorted(path for path in src.rglob("*") if path.is_file() and _source(path))
    texts = [(str(path.relative_to(src)), path.read_bytes().hex()) for path in files]
    key = cache.key_of(mode, Path(other_words.__file__).read_text(), texts)
    return cache.artefact("words", key, lambda into: other_words.write(src, into, mode))


def systemd_files() -> dict[str, bytes]:
    """What the overlay has more where systemd boots: units of the lab, and who the machine is."""
    here = HERE / "guest_init/systemd"
    files = {
        f"etc/systemd/system/lab.{kind}": here / f"lab.{kind}" for kind in ("target", "service")
    }
    files["etc/NetworkManager/conf.d/lab.conf"] = here / "networkmanager.conf"
    found = {path: file.read_bytes() for path, file in files.items()}
    return {**found, "etc/machine-id": b"6d616e612d6c6162206d616e612d6c62\n"}


def _source(path: Path) -> bool:
    return "__pycache__" not in path.parts and path.suffix != ".pyc"


def initramfs(
    kernel: Kernel, tree: Path, into: Path, extra: dict[str, bytes] | None = None
) -> None:
    """Write tree, modules and overlay, one after the other, to the file `into`."""
    with into.open("wb") as out:
        for part in (tree, kernel.modules):
            with part.open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
        out.write(overlay(extra))

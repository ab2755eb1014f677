"""Links as pyroute2 decodes them: messages made here, and a library that fails in its ways."""

from __future__ import annotations

import ast
import errno
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyroute2
import pytest
from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

import manactl
from manactl.errors import Unsupported
from manactl.look import pyroute2_links
from manactl.look.pyroute2_links import DecodedLink, decode, links
from tests.unit.look.kernel import attr
from tests.unit.wording import says

IFNAME, LINK, MASTER, LINKINFO, CARRIER, NETNSID = 3, 5, 10, 18, 33, 37


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def message(
    index: int, *attrs: bytes, name: bytes = b"eth0", up: bool = True, flags: int = 2
) -> bytes:
    """RTM_NEWLINK (16) as the kernel sends it."""
    body = struct.pack("=BxHiII", 0, 1, index, 0x1000 | up, 0) + attr(IFNAME, name + b"\0")
    body += b"".join(attrs)
    return struct.pack("=IHHII", 16 + len(body), 16, flags, 1, 1) + body


def kind(name: str, *data: bytes) -> bytes:
    info = attr(1, name.encode() + b"\0")
    return attr(LINKINFO, info + (attr(2, b"".join(data)) if data else b""))


def decoded(raw: bytes) -> Any:
    found = ifinfmsg(raw)
    found.decode()
    return found


CASES = [
    (message(2), DecodedLink(2, "eth0", "", True, False, None, None, None, False)),
    (
        message(2, attr(CARRIER, b"\1"), up=False),
        DecodedLink(2, "eth0", "", False, True, None, None, None, False),
    ),
    (
        message(9, attr(CARRIER, b"\0"), u32(LINK, 3), kind("vlan", attr(1, b"\7\0"))),
        DecodedLink(9, "eth0", "vlan", True, False, 3, None, None, True),
    ),
    (
        message(9, u32(LINK, 3), kind("vlan", attr(2, struct.pack("=II", 1, 0)))),
        DecodedLink(9, "eth0", "vlan", True, False, 3, None, None, True),
    ),
    (
        message(9, u32(LINK, 3), kind("vlan", attr(2, struct.pack("=II", 5, 0)))),
        DecodedLink(9, "eth0", "vlan", True, False, 3, None, None, False),  # loose binding
    ),
    (
        message(9, u32(LINK, 3), u32(NETNSID, 0), kind("macvlan", u32(1, 4))),
        DecodedLink(9, "eth0", "macvlan", True, False, None, (3, 0), None, False),
    ),
    (
        message(9, u32(LINK, 3), u32(NETNSID, 0xFFFFFFFF), kind("ipvlan")),
        DecodedLink(9, "eth0", "ipvlan", True, False, None, (3, -1), None, False),
    ),
    (
        message(3, u32(MASTER, 10), u32(NETNSID, 5)),
        DecodedLink(3, "eth0", "", True, False, None, None, 10, False),
    ),
    (
        message(10, kind("bond", u32(2, 3))),
        DecodedLink(10, "eth0", "bond", True, False, None, None, None, False),
    ),
    (
        message(10, kind("something-new", attr(1, b"\1\2\3\4"))),
        DecodedLink(10, "eth0", "something-new", True, False, None, None, None, False),
    ),
]


@pytest.mark.parametrize(("raw", "expected"), CASES)
def test_a_link_has_its_lower_its_master_and_its_kind(raw: bytes, expected: DecodedLink) -> None:
    assert decode(decoded(raw)) == expected


@pytest.mark.parametrize("name", sorted(
    {"veth", "netkit", "gre", "gretap", "erspan", "ipip", "sit", "vti", "vti6", "ip6tnl", "ip6gre",
     "ip6gretap", "ip6erspan", "xfrm"}
))  # fmt: skip
@pytest.mark.parametrize("far", [b"", u32(NETNSID, 2)])
def test_the_other_end_of_a_pair_and_a_tunnels_device_are_no_lowers(name: str, far: bytes) -> None:
    found = decode(decoded(message(4, u32(LINK, 3), far, kind(name))))
    assert (found.lower, found.far_lower) == (None, None)


def test_a_name_that_is_not_utf8_is_kept() -> None:
    assert decode(decoded(message(2, name=b"eth\xff"))).name == "eth\udcff"


class Library:
    """What stands for pyroute2.IPRoute: answers in turn, a new socket for each dump."""

    def __init__(self, *answers: Exception | list[bytes]) -> None:
        self.answers = list(answers)
        self.open = 0

    def __call__(self) -> Library:
        return self

    def __enter__(self) -> Library:
        self.open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.open -= 1

    def get_links(self) -> Iterator[Any]:
        assert self.open == 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for raw in answer:
            found = decoded(raw)
            found["header"]["flags"] = struct.unpack_from("=H", raw, 6)[0]
            yield found


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*answers: Exception | list[bytes]) -> Library:
        fake = Library(*answers)
        monkeypatch.setattr(pyroute2, "IPRoute", fake)
        return fake

    return use


INTERRUPTED = [message(2), message(3, flags=0x12)]
WHOLE = [message(2), message(4)]


@pytest.mark.parametrize("first", [INTERRUPTED, NetlinkDumpInterrupted()])
def test_a_dump_that_was_not_of_one_moment_is_made_again(library: Any, first: Any) -> None:
    fake = library(first, first, WHOLE)
    assert [link.ifindex for link in links()] == [2, 4]
    assert (fake.answers, fake.open) == ([], 0)


@pytest.mark.parametrize("answer", [INTERRUPTED, NetlinkDumpInterrupted()])
def test_links_that_never_stand_still_are_an_error(library: Any, answer: Any) -> None:
    fake = library(*[answer] * 10)
    with pytest.raises(OSError, match=says("during each")) as caught:
        links()
    assert caught.value.errno == errno.EAGAIN
    assert fake.open == 0


def test_a_refusal_of_the_kernel_is_an_oserror(library: Any) -> None:
    fake = library(NetlinkError(errno.EPERM, "no"))
    with pytest.raises(PermissionError):
        links()
    assert fake.open == 0


def test_a_message_that_makes_no_sense_is_an_oserror(library: Any) -> None:
    library(NetlinkDecodeError(ValueError("short")))
    with pytest.raises(OSError, match=says("decoded")) as caught:
        links()
    assert caught.value.errno == errno.EBADMSG


def test_an_oserror_is_passed_on(library: Any) -> None:
    library(TimeoutError())
    with pytest.raises(TimeoutError):
        links()


def test_without_the_library_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    with pytest.raises(Unsupported, match=says("cannot be read")) as caught:
        pyroute2_links.links()
    assert "pyroute2" in (caught.value.hint or "")


SRC = Path(manactl.__file__).parent


def importers(name: str) -> set[str]:
    """The modules of manactl that import this one, at whatever depth of their code."""
    found = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = {node.module or "", *(f"{node.module}.{one.name}" for one in node.names)}
            elif isinstance(node, ast.Import):
                names = {one.name for one in node.names}
            else:
                continue
            if any(one == name or one.startswith(f"{name}.") for one in names):
                found.add(path.relative_to(SRC).as_posix())
    return found


def callers(method: str) -> set[str]:
    """The modules of manactl that call a method or a module's function of that name."""
    return {
        path.relative_to(SRC).as_posix()
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
    }


def test_only_the_guards_of_a_claim_decode_links() -> None:
    """Not what only shows, and not what runs while a port is down: the restore is ours."""
    assert importers("pyroute2") == {"look/pyroute2_links.py"}
    assert importers("manactl.look.pyroute2_links") == {
        "look/netdevs.py",
        "look/surroundings.py",
        "look/upper_devices.py",
    }
    assert importers("manactl.look.netdevs") == {"look/surroundings.py", "look/upper_devices.py"}
    assert importers("manactl.look.upper_devices") == {"look/surroundings.py"}
    assert importers("manactl.look.surroundings") == {"act/system.py"}
    assert callers("gather") == {"act/system.py"}
    assert callers("surroundings") == {"act/claim.py"}


def test_it_is_imported_when_links_are_read_and_not_before() -> None:
    code = (
        "import sys; from manactl.act import claim, release; from manactl.doctor import probe\n"
        "from manactl.look import pyroute2_links\n"
        "assert 'pyroute2' not in sys.modules; pyroute2_links.links()\n"
        "assert 'pyroute2' in sys.modules"
    )
    env = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)

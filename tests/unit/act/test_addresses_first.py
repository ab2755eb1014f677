"""The addresses that a release sends with IFF_UP, and where it does not."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from manactl.act.addresses_first import with_addresses
from manactl.act.plan import ProveFree, SetAdmin, SetSynthetic, System
from manactl.act.restore import Prepared
from manactl.journal import file as journal
from manactl.look.netdevs_of import Unread
from manactl.model.port import PortId
from manactl.netstate.snapshot import Fact, Kind, PortState, Request
from manactl.wire import rtmsg as rt
from tests.unit.act.test_unmanage import managed
from tests.unit.fakes import PORT, address
from tests.unit.host import RICH, FakeHost, FakeSystem, claim, furnished, paired, release
from tests.unit.kernel import ADDRESS, Kernel

FIRST, SECOND = "2001:db8::2", "2001:db8:1::2"  # of RICH, the second for 900 s


def ipv6(requests: Sequence[Request]) -> list[str]:
    """The addresses of requests, each once, in order."""
    found = []
    for one in requests:
        assert one.type == rt.RTM_NEWADDR
        local = dict(rt.split(one.body, rt.IFADDR.size))[rt.IFA_ADDRESS]
        found.append(socket.inet_ntop(socket.AF_INET6, local))
    return list(dict.fromkeys(found))


def set_up(**more: object) -> SetAdmin:
    return replace(SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=True), **more)


def asked(kernel: Kernel, *, before: Sequence[Fact] = RICH, later: float = 0.0) -> list[str]:
    """What is asked for of those facts once the port is down."""
    system: System = FakeSystem(FakeHost(kernel))
    state = system.capture(PORT)
    kernel.set_up(kernel.nics[0], False)
    kernel.clock += later
    (step,) = with_addresses([set_up()], [Prepared(state)], (), system)
    assert isinstance(step, SetAdmin)
    return ipv6(step.addresses)


def test_in_the_order_of_the_snapshot_what_has_not_expired() -> None:
    assert asked(furnished()) == [FIRST, SECOND]
    assert asked(furnished(), later=899) == [FIRST, SECOND]
    assert asked(furnished(), later=901) == [FIRST]


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (address("fe80::77", 64), [FIRST]),  # of the link: others come between
        (address("2001:db8:7::7", 64, flags=0x01), [FIRST]),  # temporary: the kernel's
        (
            address("2001:db8:7::7", 64, proto=2),
            [FIRST],
        ),  # of a router's prefix (IFAPROT_KERNEL_RA)
        (address("2001:db8:7::7", 64, flags=0x40), []),  # tentative: it has never been used
        (address("2001:db8:7::7", 64, flags=0x400), []),  # autojoin: a group as well
        (address("2001:db8:7::7", 64, flags=0x20), [FIRST, "2001:db8:7::7"]),  # deprecated
    ],
)
def test_what_is_not_for_us_or_needs_more_than_a_request(more: Fact, found: list[str]) -> None:
    assert asked(furnished(address(FIRST, 64), more)) == found


def test_none_that_is_younger_than_one_which_may_have_to_come_before() -> None:
    """One with mngtmpaddr is a router's, or ours to set: a look shows that."""
    managing = address("2001:db8:7::7", 64, flags=0x100)
    kernel = furnished(address(FIRST, 64), managing, address("2001:db8:8::8", 64))
    assert asked(kernel) == [FIRST], "the oldest"


def test_each_step_gets_those_of_its_own_netdev() -> None:
    kernel = furnished()
    system = FakeSystem(FakeHost(kernel))
    kept = Prepared(system.capture(PORT))
    kernel.set_up(kernel.nics[0], False)
    other = PortId(PORT.pci, 2, "00:0d:3a:aa:00:11")
    steps = [ProveFree(PORT, "mana_0", 1), set_up(port=other), set_up()]
    same, elsewhere, ours = with_addresses(steps, [kept], (), system)
    assert [same, elsewhere] == steps[:2]
    assert isinstance(ours, SetAdmin)
    assert ipv6(ours.addresses) == [FIRST, SECOND]
    assert [fact.kind for fact in kept.at_once] == [Kind.ADDRESS] * 2
    assert "addresses" not in ours.to_json(), "the journal has them in the snapshot"


def test_each_is_looked_up_when_its_turn_has_come() -> None:
    """The step before may have waited for a carrier, and lifetimes have gone on."""
    kernel = furnished()
    system = FakeSystem(FakeHost(kernel))
    kept = Prepared(system.capture(PORT))
    kernel.set_up(kernel.nics[0], False)
    other = PortId(PORT.pci, 2, "00:0d:3a:aa:00:11")
    steps = iter(with_addresses([set_up(port=other), set_up()], [kept], (), system))
    next(steps)
    kernel.clock += 901
    (ours,) = steps
    assert isinstance(ours, SetAdmin)
    assert ipv6(ours.addresses) == [FIRST]


def test_a_snapshot_that_makes_no_sense_keeps_no_netdev_down() -> None:
    kernel = furnished()
    system = FakeSystem(FakeHost(kernel))
    state = system.capture(PORT)
    kept = Prepared(replace(state, facts=(*state.facts, Fact(Kind.ADDRESS, b"\x0a\x40"))))
    kernel.set_up(kernel.nics[0], False)
    assert list(with_addresses([set_up()], [kept], (), system)) == [set_up()]
    assert kept.at_once == ()


def test_not_where_somebody_else_has_a_say_or_it_is_up_or_another() -> None:
    kernel = furnished()
    system = FakeSystem(FakeHost(kernel))
    state = system.capture(PORT)
    steps = [set_up()]
    assert list(with_addresses(steps, [Prepared(state)], (), system)) == steps, "it is up"
    kernel.set_up(kernel.nics[0], False)
    assert list(with_addresses(steps, [Prepared(state)], (PORT,), system)) == steps
    kernel.nics[0].ifindex = 9
    assert list(with_addresses(steps, [Prepared(state)], (), system)) == steps, "it was re-created"
    kernel.nics[0].ifindex = 3
    assert list(with_addresses(steps, [Prepared(state)], (), system)) != steps
    system.host.unread = OSError(errno.EIO, "Input/output error")
    assert isinstance(system.netdev(PORT), Unread)
    assert list(with_addresses(steps, [Prepared(state)], (), system)) == steps


def test_not_where_the_kernel_has_kept_one() -> None:
    """Of keep_addr_on_down: the order would be another one."""
    kernel = furnished()
    system = FakeSystem(FakeHost(kernel))
    kept = Prepared(system.capture(PORT))
    kernel.set_up(kernel.nics[0], False)
    kernel.add(str(Kind.ADDRESS), address("2001:db8:9::9", 64).body)
    assert list(with_addresses([set_up()], [kept], (), system)) == [set_up()]
    assert kept.at_once == ()


def test_nor_where_that_cannot_be_seen() -> None:
    class Blind(FakeSystem):
        def addresses(self, ifindex: int) -> list[Fact]:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    kernel = furnished()
    system = Blind(FakeHost(kernel))
    kept = Prepared(system.capture(PORT))
    kernel.set_up(kernel.nics[0], False)
    assert list(with_addresses([set_up()], [kept], (), system)) == [set_up()]


class Noting(FakeSystem):
    """Which calls came, from the one that sets the netdev up."""

    calls: list[str]

    def _up(self, up: bool) -> None:
        type(self).calls = ["up"] if up else []

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        self._up(up)

    def set_synthetic(self, uuid: str, up: bool) -> None:
        super().set_synthetic(uuid, up)
        self._up(up)

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        self.calls.append(f"send {len(requests)}")
        return super().send_all(requests)

    def capture(self, *args: Any, **how: Any) -> PortState:
        self.calls.append("look")
        return super().capture(*args, **how)


def noting(kernel: Kernel) -> FakeHost:
    Noting.calls = []
    host = FakeHost(kernel)
    host.systems = Noting
    return host


def there(kernel: Kernel) -> list[tuple[object, ...]]:
    """The addresses that others reach, each family in the kernel's order."""
    found = [one for one in kernel.messages if one.kind == ADDRESS and one.head[3] != 253]
    found.sort(key=lambda one: one.head[0])
    return [(*one.head, *one.attrs.items()) for one in found]


def noted(tmp_path: Path, kernel: Kernel) -> list[str]:
    before = there(kernel)
    claim(tmp_path, noting(kernel))
    (port,) = release(tmp_path, noting(kernel)).ports
    assert (port.residue, port.lost) == ((), ())
    assert port.counts[Kind.ADDRESS] >= 2, "what came at once counts as well"
    assert there(kernel) == before
    return Noting.calls


def test_a_release_sends_them_before_it_looks(tmp_path: Path) -> None:
    assert noted(tmp_path, furnished())[:3] == ["up", "send 4", "look"]


@pytest.mark.parametrize("kernel", [furnished, paired])
def test_the_journal_has_it_before(tmp_path: Path, kernel: Callable[[], Kernel]) -> None:
    """That the snapshot is about to be restored, once."""

    class Reading(FakeSystem):
        at_up: ClassVar[list[str]] = []

        def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
            (path,) = journal.paths(tmp_path)
            self.at_up.append(path.read_text())
            return super().send_all(requests)

    one = kernel()
    claim(tmp_path, FakeHost(one))
    Reading.at_up.clear()
    host = FakeHost(one)
    host.systems = Reading
    release(tmp_path, host)
    begun = '"event":"undoing","kind":"keep-state"'
    assert [text.count(begun) for text in Reading.at_up] == [1] * len(Reading.at_up)
    assert '"event":"undone","kind":"set-' not in Reading.at_up[0], "they come with IFF_UP"


def test_so_it_does_for_a_pair(tmp_path: Path) -> None:
    assert "send 4" in noted(tmp_path, paired())
    steps = [SetSynthetic(PORT, "x", "eth0", True)]
    assert steps[0].to_json().keys() == {"kind", "port", "vmbus", "name", "had_carrier"}


def test_a_managed_port_waits_for_its_manager(tmp_path: Path) -> None:
    kernel, _ = managed()
    assert noted(tmp_path, kernel)[:2] == ["up", "look"]


def test_a_kernel_that_refuses_is_asked_again_after_a_look(tmp_path: Path) -> None:
    class Deaf(FakeSystem):
        deaf = True

        def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
            if self.deaf:
                self.deaf = False
                raise OSError(errno.ENOBUFS, "No buffer space available")
            return super().send_all(requests)

    kernel = furnished()
    before = there(kernel)
    claim(tmp_path, FakeHost(kernel))
    host = FakeHost(kernel)
    host.systems = Deaf
    (port,) = release(tmp_path, host).ports
    assert port.residue == ()
    assert there(kernel) == before

"""What is written for each manager, in which order it is told, and how that is undone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manactl.act.network_managers import NetworkManagers
from manactl.look.bus import Bus
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, Unmanaged, UnmanagedLink
from tests.unit.buses import NETWORKD as NETWORKD_SERVICE
from tests.unit.buses import NM, Link, World, is_ini
from tests.unit.wording import says

MAC, DRIVER = "00:0d:3a:aa:00:10", "hv_netvsc"
ETH1 = UnmanagedLink("eth1", 3, MAC, DRIVER, True)
OF_NETWORKD = Unmanaged(NETWORKD, "0", (ETH1,))
OF_NM = Unmanaged(
    NETWORK_MANAGER, "0", (UnmanagedLink("eth1", 3, MAC, None, True, "uuid-one", 0x8),)
)
OWN = """\
[Match]
Name=eth*
Driver=x

[Network]
DHCP=yes
[Route]
Destination=10.9.0.0/16
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.links.append(Link("eth2", 4, mac="00:0d:3a:aa:00:11"))
    for name in ("eth1", "eth2"):
        path = tmp_path / f"systemd/network/10-{name}.network"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(OWN.replace("Name=eth*\nDriver=x", f"Name={name}"))
        made.link(name).file = str(path)
    return made


def managers(world: World) -> NetworkManagers:
    return NetworkManagers(world.pause, run=world.run, bus=Bus(world), name_of=world.name_of,
                 clock=lambda: world.seconds)  # fmt: skip


# --- networkd -----------------------------------------------------------------------------------


def test_networkd_gets_a_file_for_this_netdev_alone(world: World) -> None:
    one = managers(world)
    one.unmanage(OF_NETWORKD)
    (path,) = one.files(OF_NETWORKD)
    text = path.read_text()
    assert is_ini(text)
    assert text.splitlines()[1:4] == ["[Match]", f"PermanentMACAddress={MAC}", f"Driver={DRIVER}"]
    assert "Name=" not in text  # what its own file matches is not what this one does
    assert "[Network]\nDHCP=yes\n[Route]\nDestination=10.9.0.0/16" in text
    assert text.endswith("\n[Network]\nBindCarrier=\nKeepConfiguration=yes\n")
    assert (world.link("eth1").activation, world.link("eth2").activation) == ("manual", "up")
    assert one.is_unmanaged(OF_NETWORKD)
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.glob(".*")] == []


def test_networkd_takes_the_netdev_back(world: World) -> None:
    one = managers(world)
    own = world.link("eth1").file
    one.unmanage(OF_NETWORKD)
    assert one.unsettled(OF_NETWORKD) == ("eth1",)
    assert one.give_back(OF_NETWORKD)
    assert (world.link("eth1").file, world.link("eth1").activation) == (own, "up")
    assert not one.is_unmanaged(OF_NETWORKD)
    assert one.unsettled(OF_NETWORKD) == ()
    assert one.give_back(OF_NETWORKD)  # again does nothing
    assert world.link("eth1").file == own


def test_what_its_own_file_says_is_not_in_the_way(world: World) -> None:
    own = Path(world.link("eth1").file or "")
    asks = "[Network]\nBindCarrier=eth2\n[Link]\nRequiredForOnline=yes\nActivationPolicy=bound\n"
    own.write_text(own.read_text() + asks)
    one = managers(world)
    one.unmanage(OF_NETWORKD)
    assert (world.link("eth1").activation, world.link("eth1").required) == ("manual", False)
    one.give_back(OF_NETWORKD)
    assert (world.link("eth1").activation, world.link("eth1").required) == ("bound", True)


def test_nobody_may_read_it_who_may_not_read_what_it_was_made_of(world: World) -> None:
    own = Path(world.link("eth1").file or "")
    own.chmod(0o640)
    one = managers(world)
    one.unmanage(OF_NETWORKD)
    (path,) = one.files(OF_NETWORKD)
    assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o640, own.stat().st_gid)


def test_drop_ins_are_read_after_the_file(world: World, tmp_path: Path) -> None:
    drop_in = tmp_path / "20.conf"
    drop_in.write_text("[Match]\nName=wlan*\n[Network]\nDHCP=no\n")
    described = world._described

    def with_drop_in(link: Link) -> dict[str, object]:
        return described(link) | {"NetworkFileDropins": [str(drop_in)]}

    world._described = with_drop_in  # type: ignore[method-assign]
    one = managers(world)
    one.unmanage(OF_NETWORKD)
    text = one.files(OF_NETWORKD)[0].read_text()
    assert text.index("DHCP=yes") < text.index("DHCP=no") < text.index("ActivationPolicy")
    assert "wlan" not in text


def test_what_is_not_utf_8_is_copied_as_it_is(world: World) -> None:
    own = Path(world.link("eth1").file or "")
    latin = "# für eth1, von Andreas Groß\n".encode("latin-1")
    own.write_bytes(own.read_bytes() + b"[Network]\n" + latin)
    one = managers(world)
    one.unmanage(OF_NETWORKD)
    assert latin in one.files(OF_NETWORKD)[0].read_bytes()


def test_a_hold_that_was_half_done_is_not_copied_into_itself(world: World) -> None:
    one = managers(world)
    one.unmanage(OF_NETWORKD)
    before = one.files(OF_NETWORKD)[0].read_text()
    one.unmanage(OF_NETWORKD)
    assert one.files(OF_NETWORKD)[0].read_text() == before


def test_a_netdev_without_a_permanent_address_is_matched_by_name(world: World) -> None:
    one = managers(world)
    unmanaged = Unmanaged(NETWORKD, "0", (UnmanagedLink("eth1", 3, None, None, True),))
    one.unmanage(unmanaged)
    assert "[Match]\nName=eth1\n" in one.files(unmanaged)[0].read_text()
    assert world.link("eth1").activation == "manual"


def test_networkd_that_takes_another_file_is_a_failure(world: World) -> None:
    first = world.run / "systemd/network/00-0-a.network"
    first.write_text("[Match]\nName=eth1\n")
    with pytest.raises(OSError, match=says(r"takes another file than .*00-0-manactl-0-0\.network")):
        managers(world).unmanage(OF_NETWORKD)
    assert 4.9 < world.seconds < 6


def test_a_file_that_has_gone_since_networkd_read_it(world: World) -> None:
    """As after `netplan generate`, before `netplan apply`."""
    own = Path(world.link("eth1").file or "")
    own.unlink()
    with pytest.raises(OSError, match=says(f"{own} has gone .*networkctl reload")):
        managers(world).unmanage(OF_NETWORKD)
    assert world.link("eth1").activation == "up"
    assert not managers(world).is_unmanaged(OF_NETWORKD)


def test_a_link_that_networkd_does_not_know(world: World) -> None:
    with pytest.raises(OSError, match=says("knows no eth7")):
        managers(world).unmanage(
            Unmanaged(NETWORKD, "0", (UnmanagedLink("eth7", 9, None, None, True),))
        )


def test_a_folder_is_made_that_networkd_can_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    was = os.umask(0o077)
    try:
        managers(world).unmanage(OF_NETWORKD)
    finally:
        os.umask(was)
    (path,) = managers(world).files(OF_NETWORKD)
    assert [p.stat().st_mode & 0o777 for p in (path.parent, path)] == [0o755, 0o644]


# --- NetworkManager -------------------------------------------------------------------------------


def test_network_manager_is_told_before_its_file_is_there(world: World) -> None:
    one = managers(world)
    one.unmanage(OF_NM)
    assert not world.link("eth1").flushed  # the file alone would have had it set down
    assert not world.link("eth1").managed
    assert world.link("eth2").managed
    text = one.files(OF_NM)[0].read_text()
    assert is_ini(text)
    which = f"interface-name:=eth1;mac:{MAC}"
    assert f"[keyfile]\nunmanaged-devices+={which}\n" in text
    assert f"match-device={which}\nmanaged=0\n" in text


def test_network_manager_reads_its_file_at_once(world: World) -> None:
    """A netdev that is re-created meanwhile, which D-Bus has told it nothing of, is unmanaged, too."""
    one = managers(world)
    one.unmanage(OF_NM)
    assert world.calls[-1] == "call Reload u 1"
    world.calls.clear()
    assert one.give_back(OF_NM)
    assert "call Reload u 1" in world.calls


@pytest.mark.parametrize("assumes", [False, True])
def test_network_manager_activates_its_profile_again(world: World, assumes: bool) -> None:
    """Left to itself it only watches a netdev that has addresses."""
    world.assumes = assumes
    one = managers(world)
    one.unmanage(OF_NM)
    assert one.unsettled(OF_NM) == ("eth1",)
    assert one.give_back(OF_NM)
    assert (world.link("eth1").managed, world.link("eth1").active) == (True, "uuid-one")
    assert one.unsettled(OF_NM) == ()
    assert not one.files(OF_NM)[0].exists()
    world.calls.clear()
    assert one.give_back(OF_NM)  # again does nothing
    changing = ("set-property", "call ActivateConnection")
    assert [call for call in world.calls if call.startswith(changing)] == []


def test_a_netdev_that_was_recreated_is_held_and_taken_back(world: World) -> None:
    one = managers(world)
    one.unmanage(OF_NM)
    world.links[0] = Link("eth9", 77, managed=True)
    world._applied(world.links[0])
    assert not world.links[0].managed
    world.links[0].name = "eth1"  # release gives it its name
    assert one.give_back(OF_NM)
    assert world.links[0].managed
    assert one.unsettled(OF_NM) == ()


def test_without_a_profile_it_is_only_taken_back(world: World) -> None:
    world.assumes = True
    unmanaged = Unmanaged(NETWORK_MANAGER, "0", (UnmanagedLink("eth1", 3, None, None, True),))
    one = managers(world)
    one.unmanage(unmanaged)
    one.give_back(unmanaged)
    assert not any("ActivateConnection" in call for call in world.calls)
    assert one.unsettled(unmanaged) == ()
    assert "mac:" not in str(world.calls)


def test_what_it_only_watched_is_taken_back_and_not_awaited(world: World) -> None:
    """It says "connected (externally)" once the addresses of others are there again, which come
    after it: "disconnected" until then."""
    unmanaged = Unmanaged(NETWORK_MANAGER, "0", (UnmanagedLink("eth1", 3, MAC, None, True),))
    one = managers(world)
    one.unmanage(unmanaged)
    assert one.unsettled(unmanaged) == ("eth1",)
    one.give_back(unmanaged)
    world.link("eth1").nm_state, world.link("eth1").active = 30, None
    assert one.unsettled(unmanaged) == ()


@pytest.mark.parametrize(
    "change",
    [{"nm_state": 70}, {"active": "uuid-two"}, {"flags": 0x54}, {"active": None}],
)
def test_what_is_not_as_far_as_it_was_is_unsettled(world: World, change: dict[str, object]) -> None:
    for key, value in change.items():
        setattr(world.link("eth1"), key, value)
    assert managers(world).unsettled(OF_NM) == ("eth1",)


def test_a_profile_that_is_gone_is_tried_for_a_while(world: World) -> None:
    world.assumes = True
    one = managers(world)
    one.unmanage(OF_NM)
    world.profiles.clear()
    assert one.give_back(OF_NM)
    assert 4.9 < world.seconds < 6
    assert one.unsettled(OF_NM) == ("eth1",)


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unmanaged", "service"), [(OF_NETWORKD, NETWORKD_SERVICE), (OF_NM, NM)])
def test_a_manager_that_has_gone(world: World, unmanaged: Unmanaged, service: str) -> None:
    one = managers(world)
    one.unmanage(unmanaged)
    world.services.discard(service)
    assert not one.give_back(unmanaged)
    assert not one.is_unmanaged(unmanaged)
    assert one.unsettled(unmanaged) == ("eth1",)


@pytest.mark.parametrize("unmanaged", [OF_NETWORKD, OF_NM])
def test_a_file_that_was_not_finished_is_removed(world: World, unmanaged: Unmanaged) -> None:
    one = managers(world)
    one.unmanage(unmanaged)
    (path,) = one.files(unmanaged)
    path.rename(path.with_name(f".{path.name}.new"))
    assert one.give_back(unmanaged)
    assert [found.name for found in path.parent.iterdir() if "manactl" in found.name] == []


@pytest.mark.parametrize("unmanaged", [OF_NETWORKD, OF_NM])
def test_a_manager_that_is_just_being_started_is_awaited(
    world: World, unmanaged: Unmanaged
) -> None:
    one = NetworkManagers(lambda _: world.services.update({NM, NETWORKD_SERVICE}), run=world.run,
                bus=Bus(world), name_of=world.name_of)  # fmt: skip
    one.unmanage(unmanaged)
    world.services.clear()
    assert one.give_back(unmanaged)
    assert one.unsettled(unmanaged) == ()


def test_a_manager_that_is_gone_costs_5_s_however_long_it_takes_to_ask(world: World) -> None:
    one = managers(world)
    one.unmanage(OF_NETWORKD)
    world.services.clear()
    world.call_takes = 0.4
    start = world.seconds
    assert not one.give_back(OF_NETWORKD)
    assert 5 <= world.seconds - start < 6


def test_what_had_not_settled_before_is_awaited_until_networkd_goes_by_its_own_file(
    world: World,
) -> None:
    """Before systemd 257 Reload() answers first, and reconfigures links later."""
    unmanaged = Unmanaged(NETWORKD, "0", (UnmanagedLink("eth1", 3, None, None, False),))
    one = managers(world)
    one.unmanage(unmanaged)
    (path,) = one.files(unmanaged)
    one.give_back(unmanaged)
    own = world.link("eth1").file
    world.link("eth1").file, world.link("eth1").state = str(path), "configuring"
    assert one.unsettled(unmanaged) == ("eth1",)
    world.link("eth1").file = own
    assert one.unsettled(unmanaged) == ()


def test_a_lease_that_it_had_is_awaited_also_when_it_says_that_it_is_done(world: World) -> None:
    """It does with the first of DHCPv4, DHCPv6 and router advertisements."""
    both = ("DHCPv4Client", "DHCPv6Client")
    unmanaged = Unmanaged(
        NETWORKD, "0", (UnmanagedLink("eth1", 3, MAC, DRIVER, True, leases=both),)
    )
    one = managers(world)
    one.unmanage(unmanaged)
    one.give_back(unmanaged)
    world.link("eth1").leases = ("DHCPv6Client",)
    assert (world.link("eth1").state, one.unsettled(unmanaged)) == ("configured", ("eth1",))
    world.link("eth1").leases = both
    assert one.unsettled(unmanaged) == ()


def test_what_had_not_settled_before_is_not_awaited_of_network_manager(world: World) -> None:
    world.link("eth1").nm_state = 30
    unmanaged = Unmanaged(NETWORK_MANAGER, "0", (UnmanagedLink("eth1", 3, None, None, False),))
    assert managers(world).unsettled(unmanaged) == ()


@pytest.mark.parametrize("unmanaged", [OF_NETWORKD, OF_NM])
def test_a_failing_manager_is_an_error_and_its_files_are_removed_all_the_same(
    world: World, unmanaged: Unmanaged
) -> None:
    one = managers(world)
    one.unmanage(unmanaged)
    world.fails.add("Reload")
    with pytest.raises(OSError, match="Reload failed"):
        one.give_back(unmanaged)
    assert not one.is_unmanaged(unmanaged)

"""Having a network manager let go of netdevs, and take them back. All of it is in /run: a reboot
ends it.

NetworkManager is told first by D-Bus, which leaves everything on the netdev as it is, and then by
a file, which is in force for a netdev that is re-created, too; the file alone would have it set the
netdev down. networkd gets a .network file of higher priority for these netdevs alone, with what its
own file says and _LETS_GO: a drop-in of that file would be for all netdevs that it matches. Files that
others wrote are read only.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from manactl.act import file_words, manager_files
from manactl.act.manager_files import by_mac, by_name, device_sections
from manactl.look import network_manager, networkd
from manactl.look.bus import Bus
from manactl.look.network_manager import NmDevice
from manactl.look.networkd import NetworkdLink
from manactl.netstate.unmanaged import NETWORKD, Unmanaged, UnmanagedLink

_SERVICES = {NETWORKD: networkd.SERVICE}
# networkd takes the first file that matches, by name: before "00-" with a letter or a digit.
_FIRST = "00-0-manactl-"
# With BindCarrier= it would be ActivationPolicy=bound whatever the file says (network_verify()), and
# what is down by intent is nothing that systemd-networkd-wait-online has to wait for.
_LETS_GO = """\
[Link]
ActivationPolicy=manual
RequiredForOnline=no

[Network]
BindCarrier=
KeepConfiguration=yes
"""
_ANSWERS = 5.0  # s for a manager that is just being started
_PAUSE = 0.1  # s


class NetworkManagers:
    """The managers of this machine, below `run`."""

    def __init__(
        self,
        pause: Callable[[float], None],
        *,
        run: Path = Path("/run"),
        bus: Bus | None = None,
        name_of: Callable[[int], str] = socket.if_indextoname,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pause, self._clock = pause, clock
        self._networks = run / "systemd/network"
        self._conf = run / "NetworkManager/conf.d"
        self._bus = Bus() if bus is None else bus
        self._name_of = name_of

    def files(self, unmanaged: Unmanaged) -> tuple[Path, ...]:
        """The files by which they are unmanaged, whether they are there or not."""
        if unmanaged.manager == NETWORKD:
            return tuple(
                self._networks / f"{_FIRST}{unmanaged.key}-{number}.network"
                for number in range(len(unmanaged.links))
            )
        return (self._conf / f"zz-manactl-{unmanaged.key}.conf",)

    def is_unmanaged(self, unmanaged: Unmanaged) -> bool:
        """Whether its files are there."""
        return all(path.exists() for path in self.files(unmanaged))

    def unmanage(self, unmanaged: Unmanaged) -> None:
        """Have the manager let go. What it has configured stays. OSError when that failed."""
        if unmanaged.manager == NETWORKD:
            self._unmanage_in_networkd(unmanaged)
        else:
            self._unmanage_in_network_manager(unmanaged)

    def give_back(self, unmanaged: Unmanaged) -> bool:
        """Have the manager take the netdevs back; False when it does not run any more. The
        same where it had let go of half of them, or of none."""
        for path in self.files(unmanaged):
            path.unlink(missing_ok=True)
            manager_files.unfinished(path).unlink(missing_ok=True)
        if not self._runs(unmanaged.manager):
            return False
        if unmanaged.manager == NETWORKD:
            networkd.reload(self._bus)
            return True
        network_manager.reload(self._bus)
        for link in unmanaged.links:  # one that is not taken back is unsettled
            self._within(partial(self._taken_back, link))
        return True

    def unsettled(self, unmanaged: Unmanaged) -> tuple[str, ...]:
        """The netdevs on which the manager has not yet done again what it had done; of networkd also
        those on which it was not done, until its own file is in force: until then it deletes."""
        wanted = [link for link in unmanaged.links if link.settled or unmanaged.manager == NETWORKD]
        try:
            if unmanaged.manager == NETWORKD:
                there = networkd.links(self._bus)
                done = [link for link in wanted if self._is_configured(there, unmanaged, link)]
            else:
                devices = list(self._devices(wanted))
                done = [link for link, device in devices if _is_active(link, device)]
        except OSError:
            done = []
        return tuple(link.name for link in wanted if link not in done)

    # --- networkd

    def _unmanage_in_networkd(self, unmanaged: Unmanaged) -> None:
        there = networkd.links(self._bus)
        files = dict(zip(unmanaged.links, self.files(unmanaged), strict=True))
        for link, path in files.items():
            now = there.get(link.ifindex)
            if now is None:
                raise OSError(errno.ENODEV, f"systemd-networkd knows no {link.name}")
            if now.file != str(path):  # else half of it was done before
                text = _network_file(link, map(_text, now.files))
                manager_files.write(path, text, like=now.files)
        networkd.reload(self._bus)
        for link, path in files.items():
            if not self._within(partial(self._applies, link, path)):
                raise OSError(errno.EBUSY, f"systemd-networkd takes another file than {path}")

    def _applies(self, link: UnmanagedLink, path: Path) -> bool:
        now = networkd.links(self._bus).get(link.ifindex)
        return now is not None and (now.file, now.activation) == (str(path), "manual")

    def _is_configured(
        self, there: dict[int, NetworkdLink], unmanaged: Unmanaged, link: UnmanagedLink
    ) -> bool:
        name = self._name(link)
        now = next((one for one in there.values() if one.name == name), None)
        return (
            now is not None
            and (_is_complete(link, now) or not link.settled)
            and now.file not in [str(path) for path in self.files(unmanaged)]
        )

    # --- NetworkManager

    def _unmanage_in_network_manager(self, unmanaged: Unmanaged) -> None:
        for link in unmanaged.links:
            device = network_manager.device(self._bus, self._name(link))
            network_manager.set_managed(self._bus, device.path, False)
        (path,) = self.files(unmanaged)
        manager_files.write(path, _keyfile(unmanaged))
        network_manager.reload(self._bus)

    def _taken_back(self, link: UnmanagedLink) -> bool:
        """Whether NetworkManager has the device, and does what it had done. Where addresses are left
        it would only watch: its profile has to be activated."""
        try:
            device = network_manager.device(self._bus, self._name(link))
            if not device.managed:
                network_manager.set_managed(self._bus, device.path, True)
            if link.profile not in (None, device.profile):
                network_manager.activate(self._bus, device.path, str(link.profile))
        except OSError:
            return False  # it has not seen the netdev, or its carrier, yet
        return True

    def _devices(self, links: Iterable[UnmanagedLink]) -> Iterator[tuple[UnmanagedLink, NmDevice]]:
        for link in links:
            with contextlib.suppress(OSError):  # it has not seen a new netdev yet, or it is gone
                yield link, network_manager.device(self._bus, self._name(link))

    # --- both

    def _name(self, link: UnmanagedLink) -> str:
        """What the netdev is called now; one that was re-created has its name again."""
        try:
            return self._name_of(link.ifindex)
        except OSError:
            return link.name

    def _runs(self, manager: str) -> bool:
        service = _SERVICES.get(manager, network_manager.SERVICE)
        return self._within(lambda: self._bus.has(service))

    def _within(self, done: Callable[[], bool]) -> bool:
        until = self._clock() + _ANSWERS  # asking takes longer than pausing
        while not done():
            if self._clock() >= until:
                return False
            self._pause(_PAUSE)
        return True


def _is_complete(link: UnmanagedLink, now: NetworkdLink) -> bool:
    """link_check_ready() wants one of DHCPv4, DHCPv6 and router advertisements, not all: a lease may
    come seconds later, with another address."""
    return now.state == networkd.CONFIGURED and set(link.leases) <= set(now.leases)


def _is_active(link: UnmanagedLink, device: NmDevice) -> bool:
    if link.profile is None:  # it only watches what others have made, which is yet to come back
        return device.managed
    return (
        device.settled
        and device.profile == link.profile
        and (device.ready & link.ready) == link.ready
    )


def _network_file(link: UnmanagedLink, parts: Iterable[str]) -> str:
    """What the link's own files say, but for whom they match, and what leaves it unmanaged."""
    match = "\n".join(manager_files.match_section(link))
    own = "\n".join(_without_match(text) for text in parts)
    return file_words.while_claimed(link.name) + f"{match}\n\n{own}\n{_LETS_GO}"


def _without_match(text: str) -> str:
    kept, inside = [], False
    for line in text.split("\n"):
        if line.strip().startswith("["):
            inside = line.strip() == "[Match]"
        if not inside:
            kept.append(line)
    return "\n".join(kept)


def _keyfile(unmanaged: Unmanaged) -> str:
    macs = [by_mac(link) for link in unmanaged.links if link.mac]
    names = [
        by_name(link)
        for link in unmanaged.links
        if manager_files.is_plain(link.name) or not link.mac
    ]
    return file_words.while_claimed(unmanaged.names) + device_sections(
        unmanaged.key, [*names, *macs]
    )


def _text(path: str) -> str:
    """One file of a link. OSError that says what to do where netplan, say, has removed it since
    networkd has read it."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        raise OSError(
            errno.ENOENT,
            f"{path} has gone since systemd-networkd read it: `networkctl reload` has it read its "
            "files again",
        ) from error

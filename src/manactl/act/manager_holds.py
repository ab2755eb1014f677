"""Having a network manager let go of netdevs, and take them back. All of it is in /run: a reboot
ends it.

NetworkManager is told first by D-Bus, which leaves everything on the netdev as it is, and then by
a file, which holds for a netdev that is made anew, too; the file alone would have it set the netdev
down. networkd gets a .network file of higher priority for these netdevs alone, with what its own
file says and ActivationPolicy=manual, KeepConfiguration=yes: a drop-in of that file would hold all
netdevs that it matches. Files that others wrote are read only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial, reduce
from operator import and_
from pathlib import Path

from manactl.look import network_manager, networkd
from manactl.look.bus import Bus
from manactl.look.network_manager import NmDevice
from manactl.look.networkd import NetworkdLink
from manactl.netstate.held import NETWORKD, HeldLink, Hold

_SERVICES = {NETWORKD: networkd.SERVICE}
# networkd takes the first file that matches, by name: before "00-" with a letter or a digit.
_FIRST = "00-0-manactl-"
_ANSWERS = 5.0  # s for a manager that is just being started
_PAUSE = 0.1  # s


class Holds:
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

    def files(self, hold: Hold) -> tuple[Path, ...]:
        """The files by which it holds, whether they are there or not."""
        if hold.manager == NETWORKD:
            return tuple(
                self._networks / f"{_FIRST}{hold.key}-{number}.network"
                for number in range(len(hold.links))
            )
        return (self._conf / f"zz-manactl-{hold.key}.conf",)

    def is_held(self, hold: Hold) -> bool:
        """Whether its files are there."""
        return all(path.exists() for path in self.files(hold))

    def hold(self, hold: Hold) -> None:
        """Have the manager let go. What it has configured stays. OSError when that failed."""
        if hold.manager == NETWORKD:
            self._hold_networkd(hold)
        else:
            self._hold_network_manager(hold)

    def lift(self, hold: Hold) -> bool:
        """Have the manager take the netdevs back; False when it does not run any more. Half a hold,
        or none, is lifted like a whole one."""
        for path in self.files(hold):
            path.unlink(missing_ok=True)
            _unfinished(path).unlink(missing_ok=True)
        if not self._runs(hold.manager):
            return False
        if hold.manager == NETWORKD:
            networkd.reload(self._bus)
            return True
        network_manager.reload(self._bus)
        for link in hold.links:  # one that is not taken back is unsettled
            self._within(partial(self._taken_back, link))
        return True

    def unsettled(self, hold: Hold) -> tuple[str, ...]:
        """The netdevs on which the manager has not yet done again what it had done; of networkd also
        those on which it was not done, until its own file is in force: until then it deletes."""
        wanted = [link for link in hold.links if link.settled or hold.manager == NETWORKD]
        try:
            if hold.manager == NETWORKD:
                there = networkd.links(self._bus)
                done = [link for link in wanted if self._is_configured(there, hold, link)]
            else:
                devices = list(self._devices(wanted))
                done = [link for link, device in devices if _is_active(link, device)]
        except OSError:
            done = []
        return tuple(link.name for link in wanted if link not in done)

    # --- networkd

    def _hold_networkd(self, hold: Hold) -> None:
        there = networkd.links(self._bus)
        files = dict(zip(hold.links, self.files(hold), strict=True))
        for link, path in files.items():
            now = there.get(link.ifindex)
            if now is None:
                raise OSError(errno.ENODEV, f"systemd-networkd knows no {link.name}")
            if now.file != str(path):  # else half of it was done before
                self._write(path, _network_file(link, map(_text, now.files)), like=now.files)
        networkd.reload(self._bus)
        for link, path in files.items():
            if not self._within(partial(self._applies, link, path)):
                raise OSError(errno.EBUSY, f"systemd-networkd takes another file than {path}")

    def _applies(self, link: HeldLink, path: Path) -> bool:
        now = networkd.links(self._bus).get(link.ifindex)
        return now is not None and (now.file, now.activation) == (str(path), "manual")

    def _is_configured(self, there: dict[int, NetworkdLink], hold: Hold, link: HeldLink) -> bool:
        name = self._name(link)
        now = next((one for one in there.values() if one.name == name), None)
        return (
            now is not None
            and (now.state == networkd.CONFIGURED or not link.settled)
            and now.file not in [str(path) for path in self.files(hold)]
        )

    # --- NetworkManager

    def _hold_network_manager(self, hold: Hold) -> None:
        for link in hold.links:
            device = network_manager.device(self._bus, self._name(link))
            network_manager.set_managed(self._bus, device.path, False)
        (path,) = self.files(hold)
        self._write(path, _keyfile(hold))
        network_manager.reload(self._bus)

    def _taken_back(self, link: HeldLink) -> bool:
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

    def _devices(self, links: Iterable[HeldLink]) -> Iterator[tuple[HeldLink, NmDevice]]:
        for link in links:
            with contextlib.suppress(OSError):  # it has not seen a new netdev yet, or it is gone
                yield link, network_manager.device(self._bus, self._name(link))

    # --- both

    def _name(self, link: HeldLink) -> str:
        """What the netdev is called now; one that was made anew has its name again."""
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

    def _write(self, path: Path, text: str, like: Iterable[str] = ()) -> None:
        """Whole or not at all: a manager may read its files at any time. It does not read names
        that begin with a dot. Nobody may read it who may not read those that it is `like`: netplan
        writes some for networkd's group alone."""
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # networkd is a user of its own, whatever umask we have
        new = _unfinished(path)
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        # A netdev's name is bytes to the kernel.
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            known = [os.stat(one) for one in like]
            if known:
                os.fchown(file.fileno(), -1, known[0].st_gid)
            os.fchmod(file.fileno(), reduce(and_, (one.st_mode for one in known), 0o644))
            file.write(text)
        new.replace(path)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _is_active(link: HeldLink, device: NmDevice) -> bool:
    return (
        device.settled
        and device.profile == link.profile
        and (device.ready & link.ready) == link.ready
    )


_WHY = (
    "# Written by manactl: {names} is claimed for RDMA. `manactl release` removes this file; a "
    "reboot does, too.\n"
)


def _network_file(link: HeldLink, parts: Iterable[str]) -> str:
    """What the link's own files say, but for whom they match, and the hold."""
    match = (
        f"Name={plain(link.name)}"
        if link.mac is None
        else f"PermanentMACAddress={link.mac}\nDriver={link.driver}"
    )
    own = "\n".join(_without_match(text) for text in parts)
    return (
        _WHY.format(names=link.name)
        + f"[Match]\n{match}\n\n{own}\n"
        + "[Link]\nActivationPolicy=manual\n\n[Network]\nKeepConfiguration=yes\n"
    )


def _without_match(text: str) -> str:
    kept, inside = [], False
    for line in text.splitlines():
        if line.strip().startswith("["):
            inside = line.strip() == "[Match]"
        if not inside:
            kept.append(line)
    return "\n".join(kept)


def _keyfile(hold: Hold) -> str:
    macs = [f"mac:{link.mac}" for link in hold.links if link.mac]
    names = [
        f"interface-name:={plain(link.name)}"
        for link in hold.links
        if is_plain(link.name) or not link.mac
    ]
    which = ";".join(dict.fromkeys([*names, *macs]))
    return (
        _WHY.format(names=hold.names)
        + f"[keyfile]\nunmanaged-devices+={which}\n\n"
        + f"[device-manactl-{hold.key}]\nmatch-device={which}\nmanaged=0\n"
    )


_SPECIAL = frozenset(" \t*?[]!;,\\\"'")


def is_plain(name: str) -> bool:
    """Whether a manager takes this for one name, and not for a pattern or a list."""
    return _SPECIAL.isdisjoint(name)


def plain(name: str) -> str:
    """The name, for a file of a manager. OSError when it would match others."""
    if not is_plain(name):
        raise OSError(errno.EINVAL, f"a netdev called {name!r} has no other mark to match by")
    return name


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="surrogateescape")

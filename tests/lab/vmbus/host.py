"""The host's side of the VMBus as tests see it: what it recorded, and what they make it do.

Text files in the guest's debugfs; see module/control.c and module/record.c. They answer while the
guest's networking hangs, since none of them takes a lock that a driver could hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DIRECTORY = "/sys/kernel/debug/vmbus_lab"
CLASS = "f8615163-df3e-46c5-913f-f2d2f965ed0e"  # network devices, for new_id

# Messages whose answers can be spoilt: types of NVSP, and of RNDIS above 1000.
VERSION, RECEIVE_BUFFER, SEND_BUFFER, SWITCH_PATH, SUBCHANNELS = 1, 101, 104, 129, 133
RNDIS_INIT, RNDIS_QUERY, RNDIS_SET = 1002, 1004, 1005
QUEUES = 8  # that a NIC has unless told otherwise


@dataclass(frozen=True, slots=True)
class Nic:
    """One offer, as the host sees it."""

    number: int
    uuid: str
    mac: str
    driver: str | None
    path: str  # "vf" or "synthetic": what the guest asked for last
    open: bool  # the channel
    ready: bool  # between RNDIS's init and halt
    told: bool  # the guest was told that there is a VF
    link: bool
    filter: int  # 0 while the netdev is down
    opens: int
    switches: int
    sent: int
    received: int
    dropped: int
    queues: int = 1  # channels that the guest may have
    channels: int = 0  # that it has opened
    rss: int = 0  # what it wants hashed; 0: off
    key: str = ""
    table: tuple[int, ...] = ()  # channels by hash
    sent_by: tuple[int, ...] = ()  # frames, by channel
    received_by: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the record; `at` is the guest's CLOCK_MONOTONIC in seconds."""

    sequence: int
    at: float
    nic: int
    text: str


def parse_nic(line: str) -> Nic:
    """A line of the file `state`."""
    words = dict(word.split("=", 1) for word in line.split())
    return Nic(
        number=int(words["nic"]),
        uuid=words["uuid"],
        mac=words["mac"],
        driver=None if words["driver"] == "-" else words["driver"],
        path=words["path"],
        open=words["open"] == "1",
        ready=words["ready"] == "1",
        told=words["told"] == "1",
        link=words["link"] == "1",
        filter=int(words["filter"], 16),
        opens=int(words["opens"]),
        switches=int(words["switches"]),
        sent=int(words["sent"]),
        received=int(words["received"]),
        dropped=int(words["dropped"]),
        queues=int(words["queues"]),
        channels=int(words["channels"]),
        rss=int(words["rss"], 16),
        key=words["key"],
        table=_numbers(words["table"]),
        sent_by=_numbers(words["sent_by"]),
        received_by=_numbers(words["received_by"]),
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(",") if one)


def parse_event(line: str) -> Event:
    """A line of the files `history` and `violations`."""
    sequence, at, nic, text = line.split(" ", 3)
    return Event(int(sequence), int(at) / 1e9, int(nic), text)


def toeplitz(key: bytes, data: bytes) -> int:
    """Microsoft's hash of receive side scaling: of addresses, and ports, as they are in a frame."""
    bits, width = int.from_bytes(key), 8 * len(key)
    found = 0
    for at in range(8 * len(data)):
        if data[at // 8] >> (7 - at % 8) & 1:
            found ^= bits >> (width - 32 - at) & 0xFFFFFFFF
    return found


class Host:
    """Commands and questions, through functions that read and write a file in the guest."""

    def __init__(self, get: Callable[[str], bytes], put: Callable[[str, str], None]) -> None:
        self._get = get
        self._put = put

    def _lines(self, name: str) -> list[str]:
        return self._get(f"{DIRECTORY}/{name}").decode().splitlines()

    def nics(self) -> list[Nic]:
        return [parse_nic(line) for line in self._lines("state")]

    def nic(self, mac: str) -> Nic:
        """The offer with this MAC address; LookupError when there is none."""
        for nic in self.nics():
            if nic.mac == mac:
                return nic
        raise LookupError(f"the host offers no {mac}")

    def history(self, since: int = 0) -> list[Event]:
        """Events from sequence number `since` on."""
        events = [parse_event(line) for line in self._lines("history")]
        return [event for event in events if event.sequence >= since]

    def mark(self) -> int:
        """Where the history is now, for history(since)."""
        events = self.history()
        return events[-1].sequence + 1 if events else 0

    def violations(self) -> list[Event]:
        return [parse_event(line) for line in self._lines("violations")]

    def clear_violations(self) -> None:
        self._put(f"{DIRECTORY}/violations", "0")

    def _command(self, text: str) -> None:
        self._put(f"{DIRECTORY}/control", text)

    def offer(self, mac: str, *, serial: int = 0, associated: bool = True) -> None:
        """Plug a NIC in; returns when the driver has probed it."""
        self._command(f"offer {mac} serial={serial} associated={associated:d}")

    def rescind(self, mac: str) -> None:
        """Take it away; returns when the driver has let it go."""
        self._command(f"rescind {self.nic(mac).number}")

    def set(self, mac: str, **values: int) -> None:
        """Change muted, associated, link, serial, keep_path, queues, refuse or hold (a message) of
        one NIC."""
        words = " ".join(f"{name}={int(value)}" for name, value in values.items())
        self._command(f"set {self.nic(mac).number} {words}")

    def delay(self, mac: str, message: int, milliseconds: int) -> None:
        """Give the next answer to this message that much later."""
        self._command(f"set {self.nic(mac).number} delay={message}:{milliseconds}")

    def unmute(self) -> None:
        """Let every NIC answer again, and well."""
        for nic in self.nics():
            still = f"keep_path=0 queues={QUEUES}"
            self._command(f"set {nic.number} muted=0 hold=0 refuse=0 delay=0:0 {still}")

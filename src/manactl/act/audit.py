"""One entry per claim, release and recovery in the system log: who, what, with what result.

To journald by its own protocol (systemd's "Native Journal Protocol"), so that `journalctl
MANACTL_RESULT=refused` finds what it should; where there is none, one line to syslog.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

from manactl.errors import ManactlError

JOURNALD = "/run/systemd/journal/socket"
MESSAGE_IDS = {  # made once by `systemd-id128 new`; stable, so that catalogs and alarms can use them
    "claim": "8819e7ae90bd47119bd17f83a9b05e42",
    "release": "0a8bf205e9904e888c93a99ab225ab90",
    "recover": "96705b8fb5f04aefa071e8b2da0befb1",
}
_FACILITY = 3  # daemon
_WARNING, _NOTICE = 4, 5
_LONGEST = 16384  # bytes of a value: with all others it fits into a datagram


class Audit:
    """Writes the entry when the `with` block is left, however that happens.

    `fields` may be added to meanwhile. `socket_path` is where journald listens.
    """

    def __init__(
        self,
        verb: str,
        by: Mapping[str, object],
        words: Iterable[str],
        *,
        socket_path: str = JOURNALD,
    ) -> None:
        self.fields: dict[str, object] = {"verb": verb, "asked": list(words), **by}
        self.quiet = False  # nothing was asked of the kernel: a dry run, nothing claimed
        self._start = time.monotonic()
        self._socket_path = socket_path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.quiet:
            return
        result: object = "done"
        if isinstance(error, ManactlError):
            result = error.code
            self.fields["why"] = error.message
            self.fields["exit"] = error.exit_code
        elif kind is not None:
            result = kind.__name__
        else:
            self.fields["exit"] = 0
        self.fields["duration_ms"] = round((time.monotonic() - self._start) * 1000)
        fields = {"result": result, **self.fields}
        priority = _WARNING if error is not None else _NOTICE
        if not _to_journald(self._socket_path, datagram(fields, priority)):
            _to_syslog(fields, priority)


def message(fields: Mapping[str, object]) -> str:
    """The line that people read."""
    ports = fields.get("ports") or fields.get("asked") or ()
    what = ", ".join(map(str, ports)) if isinstance(ports, list) else ""
    sudo = f", for {fields['sudo_user']}" if fields.get("sudo_user") else ""
    words = f"{fields['verb']} {what}".rstrip()
    return f"{words} (uid {fields.get('uid')}{sudo}): {fields['result']}"


def datagram(fields: Mapping[str, object], priority: int) -> bytes:
    """All fields in journald's native form. A list becomes the field several times."""
    verb = str(fields["verb"])
    entry = [
        ("MESSAGE", message(fields)),
        ("MESSAGE_ID", MESSAGE_IDS[verb]),
        ("PRIORITY", str(priority)),
        ("SYSLOG_IDENTIFIER", "manactl"),
        ("SYSLOG_FACILITY", str(_FACILITY)),
    ]
    for name, value in fields.items():
        entry += [(f"MANACTL_{name.upper()}", text) for text in _texts(value)]
    return b"".join(_field(name, text.encode("utf-8", "replace")) for name, text in entry)


def _texts(value: object) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    else:
        yield json.dumps(value) if isinstance(value, dict | bool) else str(value)


def _field(name: str, value: bytes) -> bytes:
    """A value with a newline goes by length, so that no name or message can forge a field."""
    value = value[:_LONGEST]
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)


def _to_journald(path: str, data: bytes) -> bool:
    import socket  # noqa: PLC0415 - `status` and `--help` have nothing to say there

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)  # a logger that hangs must not hang a release
            sock.sendto(data, path)
    except OSError:
        return False
    return True


def _to_syslog(fields: Mapping[str, object], priority: int) -> None:
    import syslog  # noqa: PLC0415

    words = [f"{name}={json.dumps(value)}" for name, value in fields.items() if value is not None]
    syslog.openlog("manactl", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(priority, " ".join(words))

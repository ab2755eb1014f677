"""One entry per claim, release and recovery in the system log: who, what, with what result.

To journald by its own protocol (systemd's "Native Journal Protocol"), so that `journalctl
MANACTL_RESULT=refused` finds what it should; where there is none, one line to syslog.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from manactl.errors import ManactlError
from manactl.escape import escape

JOURNALD = "/run/systemd/journal/socket"
MESSAGE_IDS = {  # made once by `systemd-id128 new`; stable, so that catalogs and alarms can use them
    "claim": "8819e7ae90bd47119bd17f83a9b05e42",
    "release": "0a8bf205e9904e888c93a99ab225ab90",
    "confirm": "c65fd11c68f84e66a4680fd89bb725b5",
    "recover": "96705b8fb5f04aefa071e8b2da0befb1",
}
_FACILITY = 3  # daemon
_STREAM, _DGRAM = 1, 2  # of socket, which is imported only where there is something to say
_WARNING, _NOTICE = 4, 5
_LONGEST = 16384  # bytes of a value: with all others it fits into a datagram
_LIST_LONGEST = 4096  # bytes of all values of a list, so many that say anything
_LINE_LONGEST = 8000  # bytes of a line for syslog, as rsyslog takes it
_MOMENT = 0.5  # s that a logger may take; one that hangs must not hang a release
SYSLOG = "/dev/log"


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
        syslog_path: str = SYSLOG,
    ) -> None:
        self.fields: dict[str, object] = {"verb": verb, "asked": list(words), **by}
        self.quiet = False  # nothing was asked of the kernel: a dry run, nothing claimed
        self._start = time.monotonic()
        self._socket_path = socket_path
        self._syslog_path = syslog_path

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
            to_syslog([_line(fields)], priority, _FACILITY, path=self._syslog_path)


def message(fields: Mapping[str, object]) -> str:
    """The line that people read."""
    ports = fields.get("ports") or fields.get("asked") or ()
    what = ", ".join(_some(ports)) if isinstance(ports, list) else ""
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
        field = f"MANACTL_{name.upper()}"
        entry += [(field, text) for text in _texts(value)]
        if isinstance(value, list) and len(_some(value)) < len(value):
            entry.append((f"{field}_COUNT", str(len(value))))
    return b"".join(_field(name, text.encode("utf-8", "backslashreplace")) for name, text in entry)


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return _some(value)
    return [json.dumps(value) if isinstance(value, dict | bool) else str(value)]


def _some(values: Sequence[object]) -> list[str]:
    """The first of them, as many as there is room for and one at least."""
    found: list[str] = []
    room = _LIST_LONGEST
    for value in values:
        text = str(value)[:_LIST_LONGEST]
        room -= len(text) + 32  # the field's name is repeated with every value
        if found and room < 0:
            break
        found.append(text)
    return found


def _field(name: str, value: bytes) -> bytes:
    """A value with a newline goes by length, so that no name or message can forge a field."""
    value = value[:_LONGEST]
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)


def _to_journald(path: str, data: bytes) -> bool:
    return _send(path, [data], (_DGRAM,))


def _line(fields: Mapping[str, object]) -> str:
    words = []
    for name, value in fields.items():
        if isinstance(value, list) and len(some := _some(value)) < len(value):
            words.append(f"{name}={json.dumps(some)} {name}_count={len(value)}")
        elif value is not None:
            words.append(f"{name}={json.dumps(value)}")
    return " ".join(words)


def to_syslog(
    lines: Iterable[str],
    priority: int,
    facility: int,
    *,
    path: str = SYSLOG,
    patience: float = _MOMENT,
) -> bool:
    """Lines for syslog, as syslog(3) writes them; but a logger that hangs does not hang manactl for
    more than `patience` seconds, and a missing logger is no error. Whether all were taken."""
    tag = f"<{facility * 8 + priority}>manactl[{os.getpid()}]: "
    # A name of a process may have a newline in it: no line may look like another program's.
    data = [(tag + escape(line)).encode("utf-8", "backslashreplace") for line in lines]
    short = [line[:_LINE_LONGEST] for line in data]
    return _send(path, short, (_DGRAM, _STREAM), patience)


def _send(
    path: str, data: Sequence[bytes], types: Sequence[int], patience: float = _MOMENT
) -> bool:
    """Whether a socket took all of it within `patience`, s."""
    try:
        import socket  # noqa: PLC0415 - `status` and `--help` have nothing to say there
    except (OSError, ImportError):  # no descriptor left to load it with
        return False
    deadline = time.monotonic() + patience
    least = min(patience, 0.001)  # of 0 the socket would not wait at all
    for kind in types:
        try:
            with socket.socket(socket.AF_UNIX, kind) as sock:
                sock.settimeout(patience)
                sock.connect(path)
                for line in data:
                    sock.settimeout(max(least, deadline - time.monotonic()))
                    sock.sendall(line + b"\0" if kind == _STREAM else line)
        except OSError:
            continue
        return True
    return False

"""What a journal has to look like before anything in it is believed.

A checksum tells that a line is as it was written, not who wrote it, or that it makes sense. What
readers rely on is checked here once: types, ranges, and that a record is about a port of the
header. Keys that a later version adds are none of our business; a record, an ending or a step that it
adds is, since nobody here knows what it did.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from manactl.model.record import SETTLES, Ending, Event

NONSENSE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
)
"""What a reader raises on contents of a shape that nobody has foreseen."""


class NewerError(ValueError):
    """A word that this manactl does not know where it must: only a later one can have written it."""


_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", re.ASCII)
_PORTS_MOST = 4096
_BRIEF = 40  # characters of a word that is not known
_LONGEST = 1e10  # s, some 300 years
_YEARS = range(1970, 9000)  # a clock that nobody has set begins in 1970
_EVENTS = frozenset(Event)
_ENDINGS = frozenset(Ending)


def check(header: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """One of NONSENSE, with the reason, unless every reader can do with them."""
    check_header(header)
    ports = {(one["pci"], one["port"]) for one in header["ports"]}
    for record in records:
        event = record["event"]
        if event not in _EVENTS:
            raise NewerError(f"the record {_brief(event)}")
        how = record.get("how")
        if event == Event.CLOSED and isinstance(how, str) and how not in _ENDINGS:
            raise NewerError(f"the ending {_brief(how)}")
        _each(record, "event", _RECORD)
        if event in SETTLES and (record["pci"], record["port"]) not in ports:
            raise ValueError(f"{event}: {record['pci']}:{record['port']} is no port of the claim")
        if event in (Event.CLAIMED, Event.RELEASING):
            for one in record.get("ports", ()):
                if (one["pci"], one["port"]) not in ports:
                    raise ValueError(f"{event}: {one['pci']}:{one['port']} is no port of the claim")
        if event == Event.CLAIMED:
            for one in record["ports"]:
                _is(one["proven"], _flag, "proven")
        if event == Event.ARMED and record.get("deadline") is not None:
            _is(record["confirm_by"], _moment, "confirm_by")
            _is(record["guardian"], _pid, "guardian")
        elif event == Event.ARMED and record.get("runner") is not None:
            _is(record["runner"], _pid, "runner")
            _is(record["guardian"], _pid, "guardian")


def check_header(header: Mapping[str, Any]) -> None:
    """The same for a header alone."""
    for key, right in _NEEDED.items():
        _is(header[key], right, key)
    _each(header, "header", _HEADER)
    listed = [(one["pci"], one["port"]) for one in header["ports"]]
    if len(set(listed)) != len(listed):
        raise ValueError("ports: one is listed twice")
    for one in header["ports"]:
        _is(one["permanent_mac"], _mac, "permanent_mac")
    for step in header["plan"].get("steps", ()):
        _is(step["kind"], _text, "kind")
        _port(step["port"])


def _each(found: Mapping[str, Any], what: str, rights: Mapping[str, _Right]) -> None:
    for key, right in rights.items():
        if key in found and not right(found[key]):
            raise ValueError(f"{what} {found.get('event', '')}: {key}".replace(" :", ":"))


def _is(value: object, right: _Right, what: str) -> None:
    if not right(value):
        raise ValueError(what)


def _brief(word: str) -> str:
    return repr(word[:_BRIEF])


_Right = Callable[[Any], bool]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _texts_or_none(value: object) -> bool:
    return value is None or _texts(value)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


def _whole_or_none(value: object) -> bool:
    return value is None or _whole(value)


def _pid(value: object) -> bool:
    return _whole(value) and 0 < value < 1 << 31  # type: ignore[operator]


def _seconds(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value < _LONGEST
    )


def _seconds_or_none(value: object) -> bool:
    return value is None or _seconds(value)


def _moment(value: object) -> bool:
    if not isinstance(value, str):
        return False
    moment = datetime.fromisoformat(value)
    return moment.tzinfo is not None and moment.year in _YEARS


def _mac(value: object) -> bool:
    return value is None or (isinstance(value, str) and bool(_MAC.fullmatch(value)))


def _port(value: object) -> bool:
    if not isinstance(value, dict):
        raise TypeError("port")
    if not (isinstance(value["pci"], str) and _PCI.fullmatch(value["pci"])):
        raise ValueError(f"pci {value['pci']!r}")
    if not (_whole(value["port"]) and 1 <= value["port"] <= _PORTS_MOST):
        raise ValueError(f"port {value['port']!r}")
    _each(value, "port", _OF_PORT)
    return True


def _ports(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _PORTS_MOST and all(map(_port, value))


def _some_ports(value: object) -> bool:
    return bool(value) and _ports(value)


def _mappings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _plan(value: object) -> bool:
    return (
        isinstance(value, dict)
        and _mappings(value.get("steps", []))
        and _mappings(value.get("others", []))
    )


def _netns(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and _whole_or_none(value["inode"])
        and _whole_or_none(value["cookie"])
    )


def _who(value: object) -> bool:
    return isinstance(value, dict) and all(
        one is None or isinstance(one, str | int) for one in value.values()
    )


def _who_or_none(value: object) -> bool:
    return value is None or _who(value)


def _bool_or_none(value: object) -> bool:
    return value is None or isinstance(value, bool)


_NEEDED: Mapping[str, _Right] = {
    "boot_id": _text, "time": _moment, "by": _who, "mode": _text, "ports": _some_ports,
    "plan": _plan, "snapshot": _mappings,
}  # fmt: skip
_HEADER: Mapping[str, _Right] = {"netns": _netns, "waived": _texts}
_OF_PORT: Mapping[str, _Right] = {
    "permanent_mac": _mac, "netdev": _text_or_none, "altnames": _texts, "vf": _text_or_none,
    "upper": _text_or_none, "upper_altnames": _texts_or_none, "vmbus": _text_or_none,
    "synthetic": _text_or_none, "ifindex": _whole_or_none, "upper_ifindex": _whole_or_none,
    "upper_up": _bool_or_none,
}  # fmt: skip
_RECORD: Mapping[str, _Right] = {
    "t": _moment, "step": _whole, "kind": _text, "by": _who_or_none, "why": _text_or_none,
    "lines": _texts, "residue": _texts, "ports": _ports, "deadline": _seconds_or_none,
    "started": _whole_or_none, "runner_started": _whole_or_none,
    "pid_namespace": _text_or_none, "boottime": _seconds,
    "how": _ENDINGS.__contains__,
}  # fmt: skip

"""Which ports the journals report as claimed, read as quickly as a completion needs it.

For completion alone: no checksum is checked, and a journal that cannot be read is skipped.
What acts on a journal reads it by journal/file.py; a completion that did so would take 1.27 times
as long, whether anything is claimed or not.
"""

import os
from typing import Any

from manactl.look.text_files import text
from manactl.model.named_tuple import NamedTuple


class Claims(NamedTuple):
    """Ports as (PCI address, number)."""

    now: frozenset[tuple[str, int]] = frozenset()
    history: frozenset[tuple[str, int]] = frozenset()  # claimed before the last boot
    unconfirmed: frozenset[tuple[str, int]] = frozenset()  # those of `now` that wait for it
    # the synthetic netdevs of those of `now` that were claimed for uio
    destroyed: frozenset[tuple[tuple[str, int], str]] = frozenset()


def claims(state_dir: str, proc: str = "/proc") -> Claims | None:
    """None where the state directory cannot be read (it is root's)."""
    directory = f"{state_dir}/claims"
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return Claims()
    except OSError:
        return None
    now: set[tuple[str, int]] = set()
    history: set[tuple[str, int]] = set()
    unconfirmed: set[tuple[str, int]] = set()
    destroyed: set[tuple[tuple[str, int], str]] = set()
    for name in names:
        if name.endswith(".journal") and name[0] != ".":
            boot_id, ports, waits, uppers = _read(f"{directory}/{name}")
            this_boot = boot_id == _boot_id(proc)
            (now if this_boot else history).update(ports)
            unconfirmed.update(ports if waits else ())
            destroyed.update(pair for pair in uppers if this_boot and pair[0] in ports)
    return Claims(
        frozenset(now),
        frozenset(history - now),
        frozenset(unconfirmed & now),
        frozenset(destroyed),
    )


_Uppers = list[tuple[tuple[str, int], str]]


def _read(path: str) -> tuple[str, set[tuple[str, int]], bool, _Uppers]:
    """The boot, the ports that are claimed, whether these wait to be confirmed, and the synthetic
    netdevs that a claim for uio destroys, by port."""
    import json  # noqa: PLC0415 - only while something is claimed

    from manactl.model.port import UIO  # noqa: PLC0415 - the same
    from manactl.model.record import SETTLES, Event  # noqa: PLC0415 - the same

    try:
        with open(path, "rb", opener=_opened) as file:
            lines = file.read().split(b"\n")[:-1]  # a torn last line has no end
        header, *records = (json.loads(line.rpartition(b"\t")[0]) for line in lines)
        if any(record["event"] == Event.CLOSED for record in records):
            return "", set(), False, []
        settled = {_port(r) for r in records if r["event"] in SETTLES}
        waits = any(r["event"] == Event.ARMED and r.get("deadline") for r in records)
        waits = waits and not any(r["event"] == Event.CONFIRMED for r in records)
        ports = header["ports"]
        uppers = [(_port(p), str(p["upper"])) for p in ports if p.get("synthetic") == UIO]
        return str(header["boot_id"]), {_port(one) for one in ports} - settled, waits, uppers
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", set(), False, []


def _opened(path: str, flags: int) -> int:
    """Without waiting for who would write into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _port(record: dict[str, Any]) -> tuple[str, int]:
    return str(record["pci"]), int(record["port"])


def _boot_id(proc: str) -> str | None:
    return text(f"{proc}/sys/kernel/random/boot_id")

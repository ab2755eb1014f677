"""Journals from before the last boot."""

from __future__ import annotations

from pathlib import Path

from manactl.act import transition
from manactl.errors import NotRestored, strerror
from manactl.journal import file as journal
from manactl.journal.file import Journal
from manactl.model.record import Ending


def close_stale(path: Path, boot_id: str) -> None:
    """Close a journal from before the last boot: the boot configuration has taken over."""
    try:
        if journal.salvaged(path, boot_id):
            failed = transition.put_away(path)
        else:
            with Journal.open(path) as log:
                failed = transition.close(log, Ending.REBOOT)
    except FileNotFoundError:
        return  # another manactl has just closed it
    except OSError as error:
        failed = strerror(error)
    if failed:
        raise NotRestored(
            f"the journal {path} could not be closed: {failed}; no port was touched",
            hint="fix the cause, then `manactl recover` tries again",
            code="journal",
        )

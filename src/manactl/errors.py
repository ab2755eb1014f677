"""Every failure manactl reports, each with the exit code that scripts see.

ManactlError
  UsageError       2  the words of the command line; unknown or ambiguous PORT
  Refused          3  a guard refused; nothing was touched
  RolledBack       4  failed, and everything is restored
  NotRestored      5  not (fully) restored; the journal stays open
  Busy             6  a live raw-QP holder, another manactl, or the driver in transition
  Denied           7  a privilege is missing
  Unsupported      8  no MANA function, no mana_ib, or a kernel too old
  Interrupted    130  ^C before anything was changed

With a command to run (`claim ... -- COMMAND`) the exit code is the command's, and 125 for each of
these; 126 and 127 as a shell (timeout(1)).

Anything else that escapes is a bug (exit 1).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from manactl.model.port import Evidence


EXEC_FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127  # of `claim ... -- COMMAND`


def strerror(error: OSError) -> str:
    """What the kernel says of it (strerror(3)); without an errno, what whoever raised it says."""
    if error.strerror is not None:
        return error.strerror
    return os.strerror(error.errno) if error.errno else str(error)


def errno_name(error: OSError) -> str | None:
    """Its name of errno(3), as EBUSY; None where it has no number."""
    return errno.errorcode.get(error.errno or 0)


class ManactlError(Exception):
    """What happened (message), what to do next (hint), and how we know (evidence).

    `code` is the stable word of the JSON form: the kind of the failure, or the guard's code.
    `untouched` says in the message, after the `story`, that nothing was done; whoever has done
    something before says that instead.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"
    code: str
    more: Mapping[str, object]  # what else its JSON document has
    beside: object  # what was done all the same, for who shows that

    def __init__(
        self,
        message: str,
        *,
        untouched: str | None = None,
        hint: str | None = None,
        evidence: Iterable[Evidence] = (),
        code: str | None = None,
    ) -> None:
        self.story, self.untouched = message, untouched
        self.message = message if untouched is None else f"{message}; {untouched}"
        super().__init__(self.message)
        self.hint = hint
        self.evidence = tuple(evidence)
        self.code = code or self.kind
        self.more = {}
        self.beside = None

    def __str__(self) -> str:
        return self.message

    def after(self, done: str) -> ManactlError:
        """The same where something was `done` before, which it says instead of what is untouched."""
        if self.untouched is not None:
            self.untouched, self.message = done, f"{self.story}; {done}"
        return self

    @property
    def first_line(self) -> str:
        """The message without what is listed below it."""
        return self.message.split("\n", 1)[0]


class UsageError(ManactlError):
    """The command line is wrong, or PORT names nothing or more than one thing."""

    exit_code = 2
    kind = "usage"


class Refused(ManactlError):
    """One or more guards refused; nothing was touched. `refusals` holds every one of them."""

    exit_code = 3
    kind = "refused"


class RolledBack(ManactlError):
    """A step failed and everything done before it was undone and checked."""

    exit_code = 4
    kind = "rolled-back"


class NotRestored(ManactlError):
    """Something could not be restored: the message lists it, the journal stays open."""

    exit_code = 5
    kind = "not-restored"


class Busy(ManactlError):
    """The port is in use: by a raw-QP holder, another manactl, or a driver in transition."""

    exit_code = 6
    kind = "busy"


class Denied(ManactlError):
    """A capability is missing; the message names it."""

    exit_code = 7
    kind = "denied"


class Unsupported(ManactlError):
    """This machine or kernel cannot do it: no MANA function, no mana_ib, too old."""

    exit_code = 8
    kind = "unsupported"


class Interrupted(ManactlError):
    """^C before anything was changed."""

    exit_code = 130
    kind = "interrupted"


LACKS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))


def lacking(error: OSError | MemoryError, untouched: str) -> Busy | None:
    """What to say when there were no descriptors or no memory to look with (ulimit -n, -v); None
    for any other error. `untouched`: what was not changed for it."""
    if isinstance(error, OSError) and error.errno not in LACKS:
        return None
    why = (error.strerror if isinstance(error, OSError) else None) or "no memory"
    return Busy(
        f"there is nothing to look with: {why}",
        untouched=untouched,
        hint="the limits of this process (ulimit -n, -v; LimitNOFILE= and MemoryMax= of a unit) or "
        "of the machine are used up: raise them, or try again when there is room",
    )


# Worst first: what is not as it was, then what was refused or not begun.
_WORST = (NotRestored, RolledBack, Refused, Interrupted, Busy, Denied, Unsupported, UsageError)


def worst(failures: Sequence[ManactlError]) -> ManactlError:
    """Of failures in several things, one after the other: the one whose exit code counts, with the
    messages and hints of the others."""
    rank = {kind.exit_code: number for number, kind in enumerate(_WORST)}
    first = min(failures, key=lambda error: rank.get(error.exit_code, -1))
    others = [error.message for error in failures if error is not first]
    if others:
        first.message = "\n".join([first.message, *others])
        hints = [error.hint for error in (first, *failures) if error.hint]
        first.hint = "\n".join(dict.fromkeys(hints)) or None
    return first

"""The words of a journal, as they are on disk: what its records are called, and what they say.

An older journal must be read, and an older manactl must not misread a newer one: no word is changed
or used for something else. A journal with a record, an ending or a step that is not here is left to
the manactl that knows it.
"""

import enum


class Event(enum.StrEnum):
    """What a record announces or states."""

    DOING = "doing"  # a step is about to be done
    DONE = "done"  # it was, and what it found
    CLAIMED = "claimed"  # all steps are: the ports count as claimed
    ARMED = "armed"  # a guardian ends the claim unless it is told otherwise
    CONFIRMED = "confirmed"  # it does not any more
    UNWINDING = "unwinding"  # the claim has failed: its steps are about to be undone
    RELEASING = "releasing"  # ports are about to be released
    UNDOING = "undoing"  # a step is about to be undone
    UNDONE = "undone"
    RESIDUE = "residue"  # what could not be restored
    RELEASED = "released"  # one port, wholly
    ACCEPTED = "accepted"  # one port, as it was left
    CLOSED = "closed"  # the last record: nothing is left to undo


SETTLES = (Event.RELEASED, Event.ACCEPTED)
"""The records after which a port is no longer claimed."""


class Ending(enum.StrEnum):
    """How a claim of one port ended, and how a journal was closed."""

    RELEASED = "released"
    UNWOUND = "unwound"  # the claim failed, and what it had done was undone
    RECOVERED = "recovered"  # it died on the way, and what it had done was undone
    ACCEPTED = "accepted"  # closed with the port as it was left
    REBOOT = "reboot"  # the machine was started again


class Reason(enum.StrEnum):
    """Why a claim ended that nobody asked the end of."""

    EXPIRED = "expired"  # not confirmed in time
    ABANDONED = "abandoned"  # exec mode: whoever ran the command was killed


class StepKind(enum.StrEnum):
    """What a step of a plan does."""

    KEEP_STATE = "keep-state"
    UNMANAGE = "hold-manager"  # as it was called when the first journals were written
    LEAVE_DOWN = "leave-down"
    SET_ADMIN = "set-admin"
    SET_SYNTHETIC = "set-synthetic"
    BIND_UIO = "bind-uio"
    PROVE_FREE = "prove-free"


class Mode(enum.StrEnum):
    """How a port was claimed."""

    CLAIM = "claim"
    EXEC = "exec"  # for a command: released when that ends

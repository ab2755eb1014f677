"""A full routing table is a million values, none of which is part of a cycle."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the cycle collector, which would go through all of them again and again: that takes
    a third of the time of a release with a full table. Values are freed as ever when nothing
    refers to them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()

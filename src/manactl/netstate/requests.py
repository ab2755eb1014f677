"""What is sent to change something."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """One rtnetlink request, ready to be sent."""

    type: int
    flags: int
    body: bytes

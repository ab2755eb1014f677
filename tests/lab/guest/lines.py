"""Commands in, one a line; facts out, one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

Command = Callable[..., None]


def tell(event: str, **facts: object) -> None:
    """Print one fact and flush it."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def obey(commands: Mapping[str, Command]) -> None:
    """Run commands from standard input until one returns by raising SystemExit, or its end."""
    for line in iter(sys.stdin.readline, ""):
        name, *words = line.split() or [""]
        if name in commands:
            commands[name](*words)
        elif name:
            tell("unknown-command", name=name, known=sorted(commands))

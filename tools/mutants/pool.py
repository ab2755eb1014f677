"""Tasks in forked processes, some at a time: each starts with what is imported here already."""

from __future__ import annotations

import json
import os
import selectors
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tools.mutants import box


def run(tasks: Mapping[str, Callable[[], Any]], jobs: int) -> Iterator[tuple[str, Any]]:
    """The names and results of tasks (what JSON can carry), in the order in which they end."""
    waiting = list(tasks.items())
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < jobs:
                name, task = waiting.pop(0)
                reader, pid = _start(task)
                selector.register(reader, selectors.EVENT_READ, (name, pid, bytearray()))
            for key, _ in selector.select():
                name, pid, text = key.data
                part = os.read(key.fd, 1 << 20)
                text += part
                if part:
                    continue
                selector.unregister(key.fd)
                os.close(key.fd)
                os.waitpid(pid, 0)
                if not text:
                    raise SystemExit(f"{name}: its process has ended without a result")
                yield name, json.loads(text)


def _start(task: Callable[[], Any]) -> tuple[int, int]:
    reader, writer = os.pipe()

    def work() -> int:
        os.setsid()  # ^C is for the parent, and its end is ours
        os.close(reader)
        found = json.dumps(task()).encode()
        with open(writer, "wb") as out:
            out.write(found)
        return 0

    pid = box.fork(work)
    os.close(writer)
    return reader, pid


def answer(work: Callable[[], int], reader: int, writer: int) -> Any:
    """What a child, which inherits both ends of a pipe, writes there as JSON."""

    def quiet() -> int:
        os.close(reader)
        silence()
        return work()

    pid = box.fork(quiet)
    os.close(writer)
    with open(reader) as lines:
        text = lines.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def silence() -> None:
    """Send what this process prints to nowhere, unless MUTANTS_VERBOSE is set."""
    if not os.environ.get("MUTANTS_VERBOSE"):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        os.close(nowhere)


def progress(text: str) -> None:
    """One line on a terminal that the next replaces; elsewhere nothing."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()

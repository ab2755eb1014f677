"""Runs a command and kills it at an instant counted from its first act.

argv: DIRECTORY TRIGGER DELAY COMMAND...   Prints one JSON line: {"acted", "killed", "rc", "ms"}.

The first act is the moment when a journal in DIRECTORY holds the TRIGGER text; most of a run is
interpreter start, where a kill tests nothing. DELAY is in ms from then; below zero it counts from
the start of the command, and "none" lets it run to its end. `ms` is from the first act to the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time


def acted(directory: str, trigger: bytes) -> bool:
    try:
        names = [name for name in os.listdir(directory) if not name.startswith(".")]
    except FileNotFoundError:
        return False
    for name in names:
        try:
            with open(os.path.join(directory, name), "rb") as file:
                if trigger in file.read():
                    return True
        except FileNotFoundError:
            pass  # moved to the history between the two calls
    return False


def main() -> None:
    directory, trigger, delay, *command = sys.argv[1:]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    begun = seen = time.monotonic()
    early = delay != "none" and float(delay) < 0
    found = False
    while child.poll() is None and not found and not early:
        time.sleep(0.001)  # a tighter loop would starve the command of the directory's lock
        found = acted(directory, trigger.encode())
        seen = time.monotonic()
    killed = False
    if delay != "none":
        due = begun - float(delay) / 1000 if early else seen + float(delay) / 1000
        while child.poll() is None and time.monotonic() < due:
            time.sleep(0.0002)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            killed = True
    text = child.communicate()[0]
    ms = (time.monotonic() - seen) * 1000
    told = {"acted": found, "killed": killed, "rc": child.returncode, "ms": ms, "text": text}
    sys.stdout.write(json.dumps(told) + "\n")


main()

"""Time commands against a baseline, one right after the other, round by round; run in the guest.

    python3 pace.py < CASES

CASES is JSON: `rounds`, `baseline` (an argv) and `cases` ({"name", "argv", "env"}). Answers with
one JSON object: for each case, of every round, the seconds and peak KiB of it and of the baseline.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def run(argv: list[str], env: dict[str, str]) -> tuple[float, int, int]:
    """Wall seconds, peak resident KiB and wait status of one run, its output thrown away."""
    quiet = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    began = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, {**os.environ, **env}, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    return time.perf_counter() - began, usage.ru_maxrss, status


def main() -> None:
    wanted = json.load(sys.stdin)
    found: dict[str, Any] = {case["name"]: [] for case in wanted["cases"]}
    for number in range(wanted["rounds"] + 1):
        for case in wanted["cases"]:
            seconds, peak, _ = run(wanted["baseline"], {})
            own_seconds, own_peak, status = run(case["argv"], case.get("env", {}))
            if number:  # the first round warms the caches up
                found[case["name"]].append([seconds, peak, own_seconds, own_peak, status])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

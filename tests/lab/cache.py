"""The cache directory: artefacts keyed by what they are made from, atomic and locked.

A fresh clone re-uses what an earlier one built, since nothing in here depends on the checkout but
through the keys; a changed recipe has another key and is built beside the old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

STALE_AFTER = 30 * 24 * 3600  # seconds without use after which an artefact is removed


def root() -> Path:
    """$MANACTL_CACHE, or manactl below the user's XDG cache directory; made when missing."""
    named = os.environ.get("MANACTL_CACHE")
    if named:
        path = Path(named)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        path = Path(base) / "manactl"
    path = path.absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def key_of(*parts: object) -> str:
    """A short hash of everything that an artefact is made from."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def say(text: str) -> None:
    """Progress for the person waiting; stderr, so that stdout stays the demo's and pytest's."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache-wide lock `name`; a second builder waits and then finds the result."""
    path = root() / "locks" / f"{name}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is working on {name}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def artefact(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The directory `kind/key` of the cache, built by `build(empty directory)` when missing.

    Built beside its final place and renamed, so it is whole or not there, whatever kills us.
    """
    final = root() / kind / key
    if not final.is_dir():
        with locked(f"{kind}-{key}"):
            if not final.is_dir():
                _build(kind, final, build)
    with contextlib.suppress(OSError):  # a read-only cache is still a cache
        os.utime(final)
    return final


def _build(kind: str, final: Path, build: Callable[[Path], None]) -> None:
    final.parent.mkdir(exist_ok=True)
    prune(kind)
    temp = Path(tempfile.mkdtemp(prefix=".build-", dir=final.parent))
    try:
        temp.chmod(0o755)
        build(temp)
        temp.rename(final)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def prune(kind: str) -> None:
    """Remove what nobody used for STALE_AFTER, and the remains of killed builds."""
    now = time.time()
    for entry in (root() / kind).iterdir():
        age = now - entry.stat().st_mtime
        limit = 24 * 3600 if entry.name.startswith(".build-") else STALE_AFTER
        if age > limit:
            shutil.rmtree(entry, ignore_errors=True)

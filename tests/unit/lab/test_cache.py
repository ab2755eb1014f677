"""Artefacts are whole or not there, and built once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.lab import cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANACTL_CACHE", str(tmp_path / "cache"))


def test_it_is_built_once_and_found_again() -> None:
    builds: list[Path] = []

    def build(into: Path) -> None:
        builds.append(into)
        (into / "file").write_text("content")

    first = cache.artefact("kind", "key", build)
    assert cache.artefact("kind", "key", build) == first
    assert len(builds) == 1
    assert (first / "file").read_text() == "content"
    assert cache.artefact("kind", "other", build) != first


def test_a_failed_build_leaves_nothing() -> None:
    def build(into: Path) -> None:
        (into / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.artefact("kind", "key", build)
    assert list((cache.root() / "kind").iterdir()) == []


def test_two_builders_make_one() -> None:
    builds: list[int] = []
    together = threading.Barrier(2)

    def build(into: Path) -> None:
        builds.append(1)
        (into / "file").touch()

    def one() -> None:
        together.wait()
        cache.artefact("kind", "key", build)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == [1]


def test_what_is_long_unused_goes() -> None:
    old = cache.artefact("kind", "old", lambda _: None)
    kept = cache.artefact("kind", "kept", lambda _: None)
    past = time.time() - cache.STALE_AFTER - 60
    os.utime(old, (past, past))
    cache.prune("kind")
    assert not old.exists()
    assert kept.exists()


def test_keys_differ_by_everything() -> None:
    keys = {cache.key_of(1, ["a"]), cache.key_of(2, ["a"]), cache.key_of(1, ["a", "b"])}
    assert len(keys) == 3
    assert cache.key_of(1, {"a": 1, "b": 2}) == cache.key_of(1, {"b": 2, "a": 1})

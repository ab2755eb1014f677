"""Root of a user namespace is not the machine's root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from manactl.look import user_namespace
from tests.conftest import lacking

SRC = Path(user_namespace.__file__).parents[2]
SHOW = "from manactl.look import user_namespace as u; print(u.is_initial(), u.owns_netns())"


def unshared(*flags: str) -> list[str]:
    """Both answers in namespaces of their own."""
    if subprocess.run(["unshare", *flags, "true"], check=False).returncode:
        lacking("netns", "no user namespaces here")
    made = subprocess.run(
        ["unshare", *flags, sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    return made.stdout.split()


def test_the_machines_own_namespace_is_told_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_namespace.is_initial(str(tmp_path))  # no such namespaces in this kernel
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/user").touch()
    assert not user_namespace.is_initial(str(tmp_path))
    inode = (tmp_path / "self/ns/user").stat().st_ino
    monkeypatch.setattr(user_namespace, "_INITIAL", inode)
    assert user_namespace.is_initial(str(tmp_path))


def test_what_cannot_be_looked_at_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> os.stat_result:
        raise PermissionError

    monkeypatch.setattr(os, "stat", refused)
    assert not user_namespace.is_initial()


def test_our_network_namespace_is_not_a_childs() -> None:
    assert unshared("-Ur") == ["False", "False"]


def test_a_network_namespace_of_its_own_is() -> None:
    assert unshared("-Urn") == ["False", "True"]


def test_no_network_namespace_to_ask_about(tmp_path: Path) -> None:
    assert not user_namespace.owns_netns(str(tmp_path))

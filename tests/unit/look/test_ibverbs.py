"""What libibverbs lists, asked in a child: its names, no answer, and no library."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from manactl.look import ibverbs


class Library:
    """libibverbs as verbs.h declares it: an array of device pointers and their number."""

    def __init__(self, *names: bytes) -> None:
        self.names = names
        self.devices = (ctypes.c_void_p * (len(names) + 1))(*range(0x1000, 0x1000 + len(names)))

        # Functions, since the caller sets their types.
        def get_list(count: Any) -> Any:
            count._obj.value = len(names)
            return self.devices if names else None

        def get_name(device: int) -> bytes:
            return names[device - 0x1000]

        self.ibv_get_device_list = get_list
        self.ibv_get_device_name = get_name


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Library]:
    found: dict[str, Library] = {}

    def load(name: str) -> Library:
        if name not in found:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return found[name]

    monkeypatch.setattr(ctypes, "CDLL", load)
    return found


def test_the_names_of_all_devices(libraries: dict[str, Library]) -> None:
    libraries["libibverbs.so.1"] = Library(b"mana_0", b"rocep1s0")
    assert ibverbs.listed() == ("mana_0", "rocep1s0")


def test_no_device_is_not_no_library(libraries: dict[str, Library]) -> None:
    assert ibverbs.listed() is None
    libraries["libibverbs.so.1"] = Library()
    assert ibverbs.listed() == ()


def test_a_library_that_does_not_come_back_is_left_behind() -> None:
    def hang() -> tuple[str, ...]:
        inner, _keep = os.pipe()
        os.read(inner, 1)
        return ("never",)

    assert ibverbs.listed(hang, wait=0.05) is None


def test_a_library_that_ends_its_process_is_no_answer() -> None:
    assert ibverbs.listed(lambda: os._exit(3)) is None

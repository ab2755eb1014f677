"""The cycle collector is off inside, and afterwards as it was before."""

from __future__ import annotations

import gc

import pytest

from manactl.model.uncollected import uncollected


def test_it_is_on_again_whatever_is_raised() -> None:
    @uncollected()
    def fails() -> None:
        assert not gc.isenabled()
        raise OSError("out")

    assert gc.isenabled()
    with pytest.raises(OSError, match="out"):
        fails()
    assert gc.isenabled()


def test_one_inside_another_leaves_it_off() -> None:
    with uncollected():
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_function_runs_in_it_each_time() -> None:
    @uncollected()
    def asked() -> bool:
        return gc.isenabled()

    assert [asked(), asked()] == [False, False]
    assert gc.isenabled()

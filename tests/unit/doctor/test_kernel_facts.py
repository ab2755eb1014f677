"""The table of `doctor --facts`: this kernel beside those of the lab."""

from __future__ import annotations

import pytest

from manactl.doctor import kernel_facts
from manactl.doctor.kernel_facts import FACTS, KERNELS, Fact, Row, rows, verdict

BY_CODE = {fact.code: fact for fact in FACTS}
LAB = {fact.code: fact.lab for fact in FACTS if fact.lab is not None}


def of_kernel(number: int) -> dict[str, str | None]:
    return {code: lab[number] for code, lab in LAB.items()}


def test_codes_are_unlike_and_the_probed_ones_among_them() -> None:
    assert len(BY_CODE) == len(FACTS)
    assert {"raw-qp-up", "raw-qp-down"} == {code for code in BY_CODE if code.startswith("raw-qp-")}


@pytest.mark.wording
@pytest.mark.parametrize("number", range(len(KERNELS)))
def test_a_kernel_of_the_lab_is_recognised(number: int) -> None:
    said = verdict(rows(of_kernel(number)))
    assert said.startswith(f"like {KERNELS[number]} ")
    assert f"all of {len(LAB)} facts" in said


def test_no_two_kernels_of_the_lab_look_alike() -> None:
    columns = [tuple(of_kernel(number).values()) for number in range(len(KERNELS))]
    assert len(set(columns)) == len(KERNELS)


@pytest.mark.wording
def test_a_fact_that_no_kernel_of_the_lab_has_is_named() -> None:
    odd = of_kernel(2) | {"raw-qp-up": "EPERM", "qp-zero": "EPERM"}
    assert verdict(rows(odd)) == "like no kernel of the lab: qp-zero, raw-qp-up"
    mixed = of_kernel(2) | {"raw-qp-up": "ENODEV"}
    assert verdict(rows(mixed)) == "a mixture of the lab's kernels"


@pytest.mark.wording
def test_what_could_not_be_seen_is_not_compared() -> None:
    unseen = of_kernel(1) | {"debugfs": None, "auxiliary": "mana.eth mana.rdma"}
    said = verdict(rows(unseen))
    assert said.startswith("like 6.18 ")
    assert f"all of {len(LAB) - 1} facts" in said
    nothing = verdict(rows({"debugfs": None, "auxiliary": "mana.eth"}))
    assert nothing == verdict([]) == "nothing could be compared with the lab"


def test_rows_are_what_was_asked_for_in_the_order_of_the_table() -> None:
    table = rows({"raw-qp-up": "EBUSY", "rdma-devices": "2", "other": "x"})
    assert [(row.fact.code, row.here) for row in table] == [
        ("rdma-devices", "2"),
        ("raw-qp-up", "EBUSY"),
    ]
    assert [row.like for row in table] == [("6.18", "7.x"), ("7.x",)]


@pytest.mark.parametrize(
    ("lab", "here", "like"),
    [
        (("a", "b", "b"), "b", ["6.18", "7.x"]),
        (("a", "b", "b"), "c", []),
        (("a", "b", "b"), None, []),
        (None, "a", []),
    ],
)
def test_a_row_as_json(lab: tuple[str, str, str] | None, here: str | None, like: list[str]) -> None:
    document = Row(Fact("code", "what", lab), here).to_json()
    beside = None if lab is None else {"6.12": "a", "6.18": "b", "7.x": "b"}
    assert document == {"code": "code", "what": "what", "here": here, "lab": beside, "like": like}
    assert kernel_facts.KERNELS == ("6.12", "6.18", "7.x")

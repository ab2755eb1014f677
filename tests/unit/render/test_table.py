"""The table on terminals of different widths."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from manactl.model.port import (
    Certainty,
    Holder,
    Netdev,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    Report,
    Upper,
)
from manactl.render import table
from tests.unit.render.test_prometheus import NOON

NAME = "enP30832s1np0d1"  # as long as a netdev's name can be


def port(number: int, owner: Owner, *holders: Holder) -> PortStatus:
    return PortStatus(
        id=PortId("7870:00:00.0", number, None),
        netdev=Netdev(NAME, number, 0x1002, "down", None, None, None),
        netns=None,
        upper=Upper(f"eth{number}", "netvsc"),
        rdma=RdmaPort("rdmap30832s1", number),
        owner=owner,
        certainty=Certainty.PROVEN,
        holders=holders,
    )


PORTS = (
    port(1, Owner.FREE),
    port(2, Owner.RAW_QP, Holder(4194304, "dpdk-testpmd-wi", None, 0, "fwd.service", None, None)),
)
REPORT = Report(NOON, "7", True, (), PORTS)


def lines(width: int, marked: frozenset[tuple[str, int]] | None = None) -> list[str]:
    shown = table.lines(
        REPORT, PORTS, verbose=False, width=width, color=False, marked=marked or frozenset()
    )
    return shown[:3]


def test_at_80_columns_names_give_way_and_nothing_else() -> None:
    header, free, held = lines(80)
    assert header.split() == ["PORT", "OWNER", "CERTAINTY", "RDMA", "LINK", "HELD", "BY", "CLAIM"]
    assert " free " in free
    # The numbers are the part that is needed whole.
    assert held.split()[:5] == [NAME, "raw-qp", "proven", "rdmap30832…/2", "down"]
    assert held.split()[5:] == ["dpdk-…", "4194304", "-"]
    assert cell_len(held) <= 80


@pytest.mark.parametrize(
    ("width", "headings"),
    [(99, []), (116, ["UNIT"]), (132, ["UNIT", "UPPER"]), (160, ["UNIT", "UPPER", "PCI:PORT"])],
)
def test_wider_terminals_show_more(width: int, headings: list[str]) -> None:
    header, _, held = lines(width)
    assert header.split()[8:] == headings
    assert ("fwd.service" in held) == ("UNIT" in headings)
    assert ("eth2 (netvsc)" in held) == ("UPPER" in headings)
    assert ("7870:00:00.0:2" in held) == ("PCI:PORT" in headings)
    assert all(cell_len(line) <= width for line in lines(width))


def test_a_terminal_too_narrow_for_any_table_cuts_its_right_end() -> None:
    shown = lines(30)
    assert all(cell_len(line) <= 30 for line in shown)
    assert [line.split()[1][:4] for line in shown] == ["OWNE", "free", "raw-"]


def test_marks_stand_before_the_name() -> None:
    _, free, held = lines(80, frozenset({("7870:00:00.0", 2)}))
    assert free.startswith("  enP")
    assert held.startswith("* enP")

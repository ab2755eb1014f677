"""Every message that drivers and libraries can print about a port has a topic of its own.

`messages/` holds what they print, as printf templates with their origin: facts that were read from
the binaries, so that the forms of the topics are held against something that nobody wrote here.
tests/lab/test_messages.py reads the lab's binaries again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.explain.find import find
from manactl.explain.topic import Kind

MESSAGES = Path(__file__).parent / "messages"
# How a line of each begins, where its template does not.
BEFORE = {
    "mana": "[   73.397977] mana 7870:00:00.0 eth1: ",
    "mana_ib": "[   73.397977] mana 7870:00:00.0 manae_0: ",
    "hv_netvsc": "[   73.397977] hv_netvsc f8615163-0000-1000-2000-000d3aaa0010 eth0: ",
}
ITSELF = ("mana: ", "hv_netvsc: ")  # messages of netlink: no device before them
VALUES = (
    (r"^%s: %s:%d: ", "mana_0: mana_create_qp:210: "),
    (r"^%s(?= )", "mana_gd_setup"),
    (r"%\.4x:%\.2x:%\.2x\.%x", "7870:00:00.0"),
    (r"%s\(\)", "mana_dev_start()"),
    (r"%pM", "00:0d:3a:aa:00:10"),
    (r"%pe", "-ENOMEM"),
    (r"%p", "000000005e1f2ab0"),
    (r"(?:0x)?%[-#0-9.]*(?:hh|h|ll|l|z)?[xX]", "0x1f"),
    (r"%[-0-9.]*(?:hh|h|ll|l|z)?[diu]", "-12"),
    (r"%s", "eth7"),
)


def templates() -> Iterator[tuple[str, str]]:
    """(source, template) of everything that is known to be printed."""
    for path in sorted(MESSAGES.glob("*.txt")):
        for line in path.read_text().splitlines():
            if not line.startswith("# "):
                yield path.stem, line


def printed(source: str, template: str) -> str:
    """The template as a line of a log."""
    line = template
    for hole, value in VALUES:
        line = re.sub(hole, value, line)
    assert "%" not in line, line
    return line if template.startswith(ITSELF) else BEFORE.get(source, "") + line


ALL = list(templates())


@pytest.mark.parametrize(("source", "template"), ALL, ids=[f"{s}-{t}" for s, t in ALL])
def test_a_message_has_a_topic(source: str, template: str) -> None:
    line = printed(source, template)
    topics = [topic for topic in find(line).topics if topic.kind is not Kind.ERRNO]
    assert topics, f"say what it means in src/manactl/explain/: {line}"
    assert topics[0].kind is Kind.MESSAGE, line
    shared = source == "bus_vmbus"  # some of its words are those of DPDK's other buses
    assert len(topics) == 1 or shared, f"{line}: {[topic.name for topic in topics]}"


def test_each_list_says_where_it_is_from() -> None:
    files = sorted(MESSAGES.glob("*.txt"))
    assert len(files) > 7
    for path in files:
        what, origin, *rest = path.read_text().splitlines()
        assert what.startswith("# "), path
        assert origin.startswith("# "), path
        assert len(rest) > 10, path
        assert len(rest) == len(set(rest)), path


def test_none_of_them_sends_the_operator_after_an_owner_by_its_number_alone() -> None:
    for source, template in ALL:
        names = {topic.name for topic in find(printed(source, template)).topics}
        assert not names & {"EBUSY", "ENODEV"}, template

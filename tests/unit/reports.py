"""Reports of every shape for property tests, with names as hostile as the kernel lets them be."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from manactl.model.port import (
    Certainty,
    ClaimInfo,
    Evidence,
    Holder,
    Missing,
    Netdev,
    Note,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    Report,
    Upper,
)

_NASTY = (
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "[bold red]markup[/]",
    "[/]",
    "[link=http://x]y[/link]",
    ":smile:",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "two\nlines\r\n",
    "\x00\x07\x08\x7f",
    "caf\udcc3",  # UTF-8, cut
    "\ud800",
    "\ufeff\u200b\u00ad",
    'quote"back\\slash',
    "{",
    "",
    " ",
    "e\u0301\u0301",
    "\u6f22\u5b57\uff21",
    "\U0001f469\u200d\U0001f4bb",
    "x" * 300,
)

hostile = (
    st.sampled_from(_NASTY)
    | st.text(max_size=24)
    | st.binary(max_size=24).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    | st.tuples(st.sampled_from(_NASTY), st.text(max_size=6)).map("".join)
)

_times = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=4,
)
_indexes = st.integers(1, 2**31 - 1)


def _few(of: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=3).map(tuple)


def _maybe(of: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | of


ids = st.builds(
    PortId,
    pci=st.from_regex(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", fullmatch=True),
    port=st.integers(1, 64),
    permanent_mac=_maybe(_macs),
)
netdevs = st.builds(
    Netdev,
    name=hostile,
    ifindex=_indexes,
    flags=_maybe(st.integers(0, 2**32 - 1)),
    operstate=_maybe(hostile),
    carrier=_maybe(st.booleans()),
    mac=_maybe(_macs),
    permanent_mac=_maybe(_macs),
    altnames=_few(hostile),
    master=_maybe(hostile),
)
uppers = st.builds(
    Upper, netdev=hostile, kind=_maybe(hostile), vmbus=_maybe(hostile), data_path=_maybe(hostile)
)
rdma_ports = st.builds(RdmaPort, device=hostile, port=st.integers(1, 64), others=_few(hostile))
holders = st.builds(
    Holder,
    pid=st.integers(1, 2**22),
    comm=_maybe(hostile),
    exe=_maybe(hostile),
    uid=_maybe(st.integers(0, 2**32 - 1)),
    unit=_maybe(hostile),
    container=_maybe(hostile),
    since=_maybe(_times),
)
evidence = st.builds(Evidence, source=hostile, fact=hostile, value=_values)
claims = st.builds(
    ClaimInfo,
    since=_times,
    by=st.fixed_dictionaries(
        {
            "uid": st.integers(0, 2**32 - 1),
            "sudo_user": _maybe(hostile),
            "loginuid": _maybe(st.integers(0, 2**32 - 2)),
        }
    ),
    mode=st.sampled_from(["claim", "exec"]),
    confirm_by=_maybe(_times),
    proven=st.booleans(),
    synthetic=_maybe(st.sampled_from(["keep", "down", "uio"])),
)


@st.composite
def drifts(draw: st.DrawFn) -> Note:
    return draw(st.sampled_from([Note("drift-up"), Note("drift-moved", (draw(hostile),))]))


@st.composite
def notes(draw: st.DrawFn) -> Note:
    return Note("netdev-in-netns", (draw(hostile), draw(hostile)))


ports = st.builds(
    PortStatus,
    id=ids,
    netdev=_maybe(netdevs),
    netns=_maybe(hostile),
    upper=_maybe(uppers),
    rdma=_maybe(rdma_ports),
    owner=st.sampled_from(Owner),
    certainty=st.sampled_from(Certainty),
    candidates=_few(hostile),
    holders=_few(holders),
    evidence=_few(evidence),
    drift=_few(drifts()),
    notes=_few(notes()),
    claim=_maybe(claims),
)
reports = st.builds(
    Report,
    time=_times,
    kernel=hostile,
    privileged=st.booleans(),
    missing=_few(
        st.builds(Missing, source=hostile | st.sampled_from(["journal", "debugfs"]), why=hostile)
    ),
    ports=st.lists(ports, max_size=3, unique_by=lambda port: (port.id.pci, port.id.port)).map(
        lambda found: tuple(sorted(found, key=lambda port: (port.id.pci, port.id.port)))
    ),
)

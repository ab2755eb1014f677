"""The judge of the random walk: what `status --json` says beside what is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonschema.protocols import Validator

from tests.lab.scene import Row, agrees, owners

if TYPE_CHECKING:
    from tests.lab.walk import World


def judge(world: World, schema: Validator) -> Row:
    """Compare what `status --json` says with what is so; returns the document."""
    before = owners(world.vm)
    document = world.status()
    assert owners(world.vm) == before, "a port changed hands although nobody did anything"
    schema.validate(document)
    rows = {row["port"]: row for row in document["ports"]}
    assert len(rows) == len(document["ports"])
    assert sorted(rows) == sorted(before), f"ports {sorted(rows)}, the NIC has {sorted(before)}"
    for port, row in rows.items():
        agrees(row, before[port])
        if _raw_hidden(world):
            assert (row["owner"] != "free", row["rdma"]) == (True, None), row
        if row["owner"] == "unknown":
            assert _undecidable(world, port, before), row
        if before[port] == "raw-qp" and row["owner"] == "raw-qp":
            seen = {holder["pid"] for holder in row["holders"]}
            assert seen == _holders(world), row
        _named(world, port, row)
    return document


def _undecidable(world: World, port: int, truth: dict[int, str]) -> bool:
    """Whether nothing in the kernel tells who has this port.

    Before 7.x that is so while a raw QP exists and several ports may have it: all but those
    whose netdev is up in plain sight; and of a netdev that is not in sight, without that too. The
    same on 7.x without debugfs. With the device of raw QPs in another namespace nothing shows that
    a port is free, and only debugfs of 7.x that a raw QP has one.
    """
    tells = world.tells_every_port and world.debugfs
    if _raw_hidden(world):
        return truth[port] == "free" if tells else truth[port] != "ethernet" or port in world.away
    if tells:
        return False
    may_have = [each for each, owner in truth.items() if owner != "ethernet" or each in world.away]
    return port in world.away or ("raw-qp" in truth.values() and len(may_have) > 1)


def _raw_hidden(world: World) -> bool:
    return world.devices["raw"] in world.rdma_away


def _holders(world: World) -> set[int]:
    """The processes that have the device for raw QPs open."""
    found = {pid for raw in world.raws for pid in raw.holders}
    if world.testpmd is not None:
        found.add(world.testpmd.pid)
    if world.devices["rnic"] == world.devices["raw"]:
        found |= {other.pid for other in world.rnics}
    return found


def _named(world: World, port: int, row: Row) -> None:
    """Name, namespace and master are those that the walk gave the netdev, wherever it is."""
    where = world.elsewhere if port in world.away else None
    assert (row["netdev"], row["netns"]) == (world.names[port], where), row
    upper = row["upper"] and row["upper"]["netdev"]
    assert upper == world.master(port), row
    if upper is not None:
        world.agrees_above(port, row["upper"])

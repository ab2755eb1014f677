"""What the running kernel shows of its ports' owners, as one JSON document; see tests/lab/capture.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from manactl.wire.nldev import Nldev

FILES = (
    *("flags", "operstate", "address", "dev_port", "ifindex", "addr_assign_type", "uevent"),
    *("vendor", "device", "node_guid", "ibdev", "dev"),
)


def here() -> dict[str, Any]:
    """Files, links and directories of this machine, by path, and nldev's answers."""
    tree: dict[str, Any] = {}
    for pci in sorted(name for name in os.listdir("/sys/bus/pci/drivers/mana") if ":" in name):
        tree[f"/sys/bus/pci/drivers/mana/{pci}"] = {"link": f"../../devices/{pci}"}
        _record(tree, Path(f"/sys/bus/pci/devices/{pci}"), depth=4)
        tree[f"/sys/bus/pci/devices/{pci}/driver"] = {"link": "../../drivers/mana"}
    for slot in Path("/sys/bus/pci/slots").glob("*/address"):
        tree[str(slot)] = slot.read_text()
    for directory in sorted(Path("/sys/kernel/debug").glob("mana/**/")):
        tree[str(directory)] = None
    if Path("/sys/class/infiniband").is_dir():
        tree["/sys/class/infiniband"] = None
    tree["/sys/kernel/debug"] = None
    return {"kernel": os.uname().release, "tree": tree, "nldev": _nldev()}


def _record(tree: dict[str, Any], path: Path, depth: int) -> None:
    for child in sorted(path.iterdir()):
        inside = str(child)
        if child.is_symlink():
            if child.name in ("driver", "master"):
                tree[inside] = {"link": os.readlink(child)}
        elif child.is_dir():
            if child.name in ("power", "queues", "statistics", "hw_counters", "gids", "gid_attrs"):
                continue
            tree[inside] = None
            if depth:
                _record(tree, child, depth - 1)
        elif child.name in FILES:
            tree[inside] = child.read_text()


def _nldev() -> list[dict[str, Any]]:
    with Nldev() as nldev:
        return [
            {
                "device": device._asdict(),
                "summary": nldev.summary(device.dev_index),
                "contexts": [one._asdict() for one in nldev.contexts(device.dev_index)],
                "pds": [one._asdict() for one in nldev.pds(device.dev_index)],
                "cqs": [one._asdict() for one in nldev.cqs(device.dev_index)],
                "raw_qp_tracked": nldev.raw_qp_tracked(device.dev_index),
            }
            for device in nldev.devices()
        ]


if __name__ == "__main__":
    print(json.dumps(here()))

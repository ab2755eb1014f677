"""Finds out, on this machine, the facts that doctor.kernel_facts lists."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence

from manactl.doctor.machine import Machine, Shape
from manactl.look import rdma, sysfs
from manactl.look.raw_qp_probe import prove_free
from manactl.look.sysfs import Function, Roots
from manactl.look.text_files import names
from manactl.model.port import PortStatus
from manactl.wire.nldev import Nldev, RdmaDevice
from manactl.wire.uverbs import ProofOutcome


def passive(machine: Machine, roots: Roots = Roots()) -> dict[str, str | None]:  # noqa: B008
    """What can be seen without creating anything, by code."""
    functions = [sysfs.function(roots, pci) for pci in sysfs.functions(roots)]
    found: dict[str, str | None] = {
        "rdma-devices": _same([str(len(function.rdma)) for function in functions]),
        "debugfs": None if machine.shape is None else str(machine.shape),
        "debugfs-name": _debugfs_name(functions, roots, machine),
        "netns": machine.rdma_netns,
        "auxiliary": _same([_auxiliary(function.pci, roots) for function in functions]),
        "dev-port": _same(
            [" ".join(str(p.dev_port) for p in function.netdevs) for function in functions]
        ),
    }
    with contextlib.suppress(OSError), Nldev() as nldev:
        listed = {device.name: device for device in nldev.devices()}
        raws = [
            (function, rdma.raw_device(function.rdma, listed, apart=function.apart))
            for function in functions
            if function.rdma
        ]
        devices = [listed[raw.name] for _, raw in raws if raw and raw.name in listed]
        found["raw-device"] = _same([_kind(device) for device in devices])
        here = [
            node.name for function in functions for node in function.rdma if node.name in listed
        ]
        found["qp-dump"] = _dump(nldev, [listed[name] for name in here])
        found |= _asked(nldev, devices)
    return found


def probed(port: PortStatus) -> dict[str, str | None]:
    """What the kernel answers to a raw QP on that port, made and destroyed at once."""
    if port.rdma is None or port.netdev is None:
        return {}
    up = port.netdev.admin_up
    proof = prove_free(port.id.pci, port.rdma.device, port.rdma.port)
    answer = None if proof.errno is None else _name(proof.errno)
    if proof.outcome is ProofOutcome.FREE:
        answer = "made"
    return {"raw-qp-up" if up else "raw-qp-down": answer}


def _asked(nldev: Nldev, devices: Sequence[RdmaDevice]) -> dict[str, str | None]:
    found: dict[str, list[str]] = {}
    for device in devices:
        index = device.dev_index
        found.setdefault("qp-zero", []).append(_zero(nldev, index))
        with contextlib.suppress(OSError, ValueError, KeyError):
            kinds = nldev.summary(index)
            found.setdefault("summary", []).append(_yes({"qp", "pd", "cq", "ctx"} <= set(kinds)))
        for code, ask in (("pd-users", nldev.pds), ("cq-users", nldev.cqs)):
            with contextlib.suppress(OSError, ValueError, KeyError):
                there = ask(index)
                if there:
                    found.setdefault(code, []).append(_yes(all(r.users is not None for r in there)))
    return {code: _same(values) for code, values in found.items()}


def _dump(nldev: Nldev, devices: Sequence[RdmaDevice]) -> str | None:
    """Of the devices that have a queue pair, the kernel's own for one: without any it is empty."""
    words = []
    for device in devices:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if nldev.summary(device.dev_index).get("qp"):
                words.append(_entries(nldev, device.dev_index))
    return _same(words)


def _entries(nldev: Nldev, index: int) -> str:
    try:
        return f"{nldev.dump_queue_pairs(index)} entries"
    except OSError as error:
        return _name(error.errno)


def _zero(nldev: Nldev, index: int) -> str:
    try:
        return "EAGAIN" if nldev.raw_qp_tracked(index) else "ENOENT"
    except OSError as error:
        return _name(error.errno)


def _name(number: int | None) -> str:
    """As the kernel spells it; Python knows 95 by its other name."""
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"
    return errno.errorcode.get(number or 0, str(number))


def _kind(device: RdmaDevice) -> str:
    return f"{'nonzero' if device.node_guid else 'zero'}, {device.protocol or 'none'}"


def _debugfs_name(functions: Sequence[Function], roots: Roots, machine: Machine) -> str | None:
    if machine.shape is None:
        return None
    if machine.shape is Shape.NOTHING:
        return "-"
    there = os.listdir(f"{roots.sys}/kernel/debug/mana")
    words = []
    for function in functions:
        if function.pci in there:
            words.append("pci")
        elif set(sysfs.slot_names(roots, function.pci)) & set(there):
            words.append("slot")
        else:
            words.append("neither")
    return _same(words)


def _auxiliary(pci: str, roots: Roots) -> str:
    entries = names(f"{roots.sys}/bus/pci/devices/{pci}")
    kinds = sorted(name.rpartition(".")[0] for name in entries if name.startswith("mana."))
    return " ".join(kinds)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _same(values: Sequence[str]) -> str | None:
    """One word when all functions agree, else all of them."""
    return "; ".join(dict.fromkeys(values)) if values else None

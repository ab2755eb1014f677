"""What is looked at, in words: where a fact comes from, what it is called, why it was not read.

Evidence, notes and refusals show these; who decides has the fact itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# --- RDMA ----------------------------------------------------------------------------------

NO_RDMA = "the RDMA subsystem is not loaded"
RAW_QP_TRACKED = "raw QP in the tracking table"
CONTEXTS = "open contexts"
PD_USERS = "users of protection domains"
BUSY_PDS = "protection domains in use"
CQ_USERS = "users of completion queues"
USER_QPS = "tracked user QPs"
CREATORS = "context creators"


def not_listed(device: str) -> str:
    return f"{device} is not listed by the RDMA subsystem"


def which_device(devices: Iterable[str]) -> str:
    return f"cannot tell which RDMA device is for raw queue pairs: {', '.join(devices)}"


def device_not_here(pci: str) -> str:
    return (
        f"the raw-QP device of {pci} is not here: it is in another network namespace, or mana_ib "
        "has not made it"
    )


def device_elsewhere(names: Sequence[str], pci: str) -> str:
    among = " among them" if len(names) > 1 else ""
    return (
        f"raw-QP device in another network namespace ({', '.join(names)}{among} of {pci}): what is "
        "on it is not visible from here"
    )


def malformed(what: str, error: Exception) -> str:
    return f"{what}: malformed answer ({error})"


# --- who uses RDMA devices -----------------------------------------------------------------


def in_kernel(modules: Iterable[str]) -> str:
    return f"{', '.join(modules)} in the kernel"


def domains_in_use(count: int) -> str:
    return f"{count} protection domain{'s' * (count > 1)} in use"


def in_software(use: str) -> str:
    return f"{use}, in software"


def queue_pairs(count: int) -> str:
    return f"{count} RC or UD queue pair{'s' * (count > 1)}"


# --- the proof by a raw QP -----------------------------------------------------------------


def made(device: str, port: int) -> str:
    return f"a RAW_PACKET QP could be made on {device}/{port}"


def no_port(device: str, port: int, ports: int) -> str:
    return f"{device} has no port {port}: its ports are 1 to {ports}"


def is_rnic(device: str) -> str:
    return f"{device} is the RNIC of the function: raw QPs belong to its Ethernet device"


def is_no_mana(device: str, vendor: int, part: int) -> str:
    return f"{device} is not a MANA Ethernet device (vendor {vendor:#x}, part {part})"


NO_REASON = "no reason given"


def no_rdma_device(port: object) -> str:
    return (
        f"port {port} has no RDMA device here (is mana_ib loaded, or the device in another network "
        "namespace?)"
    )


# --- logins, programs, managers ------------------------------------------------------------


def ssh_connection(pid: int) -> str:
    return f"SSH_CONNECTION of pid {pid}"


def logind_session(name: str) -> str:
    return f"logind session {name}"


def mosh(process: object, port: int) -> str:
    return f"{process} on UDP port {port}"


UNSEEN_PROGRAM = "a program that is not visible"
SHARED_BLOCK = "devices with a shared tc block"


def unknown_netdev(netdev: str) -> str:
    """Of a manager that was asked."""
    return f"it knows no {netdev}"


def no_network_file(netdev: str, state: str) -> str:
    return f"it names no .network file of {netdev} ({state})"

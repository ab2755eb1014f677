"""The RDMA side of a function: which device raw queue pairs are made on, and what is on it."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from manactl.decide.ownership import DeviceFacts
from manactl.errors import strerror
from manactl.look import source_words, sysfs
from manactl.look.sysfs import Function, RdmaNode, Roots
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Evidence, Missing, RdmaUse, Source
from manactl.wire.nldev import Nldev, RdmaDevice, RdmaNetlink, Resource

_T = TypeVar("_T")


class RdmaView(NamedTuple):
    """One function's RDMA side. `raw` is the device for raw queue pairs, where that is known.

    Else it may be one of `hidden`, which are in other network namespaces.
    """

    raw: RdmaNode | None
    others: tuple[RdmaNode, ...]
    facts: DeviceFacts
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    others_use: tuple[tuple[RdmaNode, int], ...] = ()  # queue pairs of users that are not raw
    use: RdmaUse = RdmaUse()  # of `raw`
    hidden: tuple[RdmaNode, ...] = ()


def list_devices(netlink: RdmaNetlink | None) -> tuple[list[RdmaDevice], list[Missing]]:
    """Every RDMA device that nldev lists here, and why it is none."""
    if netlink is None:
        return [], [Missing(Source.NLDEV, source_words.NO_RDMA)]
    missing: list[Missing] = []
    return _ask(missing, "devices", netlink.devices) or [], missing


def view(
    function: Function, netlink: RdmaNetlink | None, devices: Iterable[RdmaDevice]
) -> RdmaView:
    """Read one function's RDMA devices."""
    nodes = function.rdma
    if not function.rdma_driver:
        gone = Evidence("sysfs", "RDMA driver", None)
        return RdmaView(None, (), DeviceFacts(absent=True), (gone,))
    listed = {device.name: device for device in devices}
    raw = raw_device(nodes, listed, apart=function.apart)
    others = tuple(node for node in nodes if node is not raw)
    if raw is None and (function.elsewhere or all(_serves_others(n, listed) for n in nodes)):
        facts = DeviceFacts(elsewhere=True)
        unseen = Missing(Source.NLDEV, _elsewhere(function))
        return RdmaView(None, others, facts, (), (unseen,), hidden=function.elsewhere)
    if raw is None:
        why = source_words.which_device(node.name for node in nodes)
        return RdmaView(None, others, DeviceFacts(), (), (Missing(Source.NLDEV, why),))
    device = listed.get(raw.name)
    if netlink is None or device is None:
        why = source_words.not_listed(raw.name)
        return RdmaView(raw, others, DeviceFacts(), (), (Missing(Source.NLDEV, why),))
    facts, evidence, missing, creators = _read(netlink, device)
    use = [
        (node, count)
        for node in others
        if node.name in listed and (count := _queue_pairs(netlink, listed[node.name].dev_index))
    ]
    other_qps = _other_qps(facts)
    if other_qps is not None:
        use.append((raw, other_qps))
    use = [(node, count) for node, count in use if count > 0]
    evidence += [
        Evidence("nldev", f"{node.name}: RC, UC and UD queue pairs of users", count)
        for node, count in use
    ]
    return RdmaView(
        raw,
        others,
        facts,
        tuple(evidence),
        tuple(missing),
        tuple(use),
        RdmaUse(facts.contexts, creators, other_qps),
    )


def raw_device(
    nodes: Sequence[RdmaNode], listed: dict[str, RdmaDevice], *, apart: bool
) -> RdmaNode | None:
    """The function's device for raw queue pairs among those that are here; never by name, which
    udev may have changed.

    `apart`: it is the one of mana.eth.N, which has no node GUID and none of the protocols that
    nldev names. It may be in another network namespace, and then the RNIC's is no stand-in for it.
    Without a mana.eth.N the only device serves everything.
    """
    if len(nodes) == 1 and not apart:
        return nodes[0]
    bare = [
        node for node in nodes if node.node_guid is not None and not _serves_others(node, listed)
    ]
    return bare[0] if len(bare) == 1 else None


def _serves_others(node: RdmaNode, listed: dict[str, RdmaDevice]) -> bool:
    """Whether it is not the Ethernet-linked one."""
    device = listed.get(node.name)
    return bool(node.node_guid) or (device is not None and device.protocol is not None)


def _elsewhere(function: Function) -> str:
    """Why the device for raw queue pairs is not to be seen."""
    if not function.elsewhere:
        return source_words.device_not_here(function.pci)
    return source_words.device_elsewhere([node.name for node in function.elsewhere], function.pci)


def find_raw_device(pci: str, roots: Roots = Roots()) -> RdmaNode | None:  # noqa: B008
    """The function's device for raw queue pairs as it is at this moment, whatever its name."""
    function = sysfs.function(roots, pci)
    listed: dict[str, RdmaDevice] = {}
    if len(function.rdma) > 1:
        with contextlib.suppress(OSError, ValueError, KeyError), Nldev() as netlink:
            listed = {device.name: device for device in netlink.devices()}
    return raw_device(function.rdma, listed, apart=function.apart)


def _other_qps(facts: DeviceFacts) -> int | None:
    """Queue pairs of other kinds on the device of the raw ones: where it serves these alone, none.

    The kernel's table lists at most one raw queue pair among them.
    """
    if not facts.combined:
        return 0
    if facts.user_qps is None or facts.raw_qp_tracked is None:
        return None
    return facts.user_qps - facts.raw_qp_tracked


def _read(
    netlink: RdmaNetlink, device: RdmaDevice
) -> tuple[DeviceFacts, list[Evidence], list[Missing], tuple[int, ...] | None]:
    missing: list[Missing] = []
    index = device.dev_index
    tracked = _ask(missing, "queue pair 0", lambda: netlink.raw_qp_tracked(index))
    contexts = _users_only(_ask(missing, "contexts", lambda: netlink.contexts(index)))
    pds = _users_only(_ask(missing, "protection domains", lambda: netlink.pds(index)))
    summary = _ask(missing, "summary", lambda: netlink.summary(index))
    cqs = _ask(missing, "completion queues", lambda: netlink.cqs(index))
    if summary is not None and summary != _ask(missing, "summary", lambda: netlink.summary(index)):
        summary = None  # queue pairs came or went: they cannot be set against the queues
    facts = DeviceFacts(
        combined=device.protocol is not None,
        raw_qp_tracked=tracked,
        contexts=None if contexts is None else len(contexts),
        pd_users=_sum_of_users(pds),
        cq_users=_sum_of_users(_users_only(cqs)),
        user_qps=_user_qps(summary, cqs),
        busy_pds=_busy(pds),
    )
    # No pid: the process has ended, or is in a pid namespace beside ours (task_pid_vnr()).
    pids = [context.pid for context in contexts or ()]
    named = tuple(sorted({pid for pid in pids if pid}))
    values = (
        (source_words.RAW_QP_TRACKED, facts.raw_qp_tracked),
        (source_words.CONTEXTS, facts.contexts),
        (source_words.PD_USERS, facts.pd_users),
        (source_words.BUSY_PDS, facts.busy_pds),
        (source_words.CQ_USERS, facts.cq_users),
        (source_words.USER_QPS, facts.user_qps),
        (source_words.CREATORS, list(named) or None),
    )
    evidence = [
        Evidence("nldev", f"{device.name}: {fact}", value)
        for fact, value in values
        if value is not None
    ]
    creators = None if contexts is None or not all(pids) else named
    return facts, evidence, missing, creators


def _queue_pairs(netlink: RdmaNetlink, index: int) -> int | None:
    """Queue pairs of users on a device without raw queue pairs; None when it is not reported."""
    try:
        if not _users_only(netlink.contexts(index)):
            return 0
        return _user_qps(netlink.summary(index), netlink.cqs(index))
    except (OSError, ValueError, KeyError):
        return None  # nothing but an explanation is lost


def _users_only(resources: list[Resource] | None) -> list[Resource] | None:
    return None if resources is None else [found for found in resources if not found.kernel]


def _sum_of_users(resources: list[Resource] | None) -> int | None:
    """The references to all of them, or None where the kernel does not report some."""
    if resources is None:
        return None
    total = 0
    for found in resources:
        if found.users is None:
            return None
        total += found.users
    return total


def _busy(resources: list[Resource] | None) -> int | None:
    """How many of them something refers to; None as for _sum_of_users()."""
    if resources is None or any(found.users is None for found in resources):
        return None
    return sum(found.users != 0 for found in resources)


def _user_qps(summary: dict[str, int] | None, cqs: list[Resource] | None) -> int | None:
    """Tracked queue pairs without the kernel's own, each of which uses a kernel queue twice."""
    if summary is None or "qp" not in summary or cqs is None:
        return None
    of_kernel = _sum_of_users([found for found in cqs if found.kernel])
    if of_kernel is None or of_kernel % 2 or of_kernel // 2 > summary["qp"]:
        return None
    return summary["qp"] - of_kernel // 2


def _ask(missing: list[Missing], what: str, ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except OSError as error:
        missing.append(Missing(Source.NLDEV, f"{what}: {strerror(error)}"))
    except (ValueError, KeyError) as error:  # an answer that is not what the header promises
        missing.append(Missing(Source.NLDEV, source_words.malformed(what, error)))
    return None

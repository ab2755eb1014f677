"""The RDMA subsystem's netlink interface: devices and their tracked resources.

Only requests that no driver lock can hold up: PORT_GET is left out, because it ends in
ib_query_port(), and on some kernels that waits for RTNL.
"""

import errno
import struct
from collections.abc import Iterator
from typing import Protocol, Self

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import as_int, as_str, attr_u32, iter_attrs, parse_attrs
from manactl.wire.netlink import NETLINK_RDMA, NetlinkSocket

RDMA_NL_NLDEV = 5

# enum rdma_nldev_command and enum rdma_nldev_attr of include/uapi/rdma/rdma_netlink.h; a unit
# test compares them with that header where it is installed.
COMMANDS = {
    "GET": 1,
    "SYS_GET": 6,
    "RES_GET": 9,
    "RES_QP_GET": 10,
    "RES_CQ_GET": 12,
    "RES_PD_GET": 14,
    "RES_CTX_GET": 22,
}
ATTRS = {
    "DEV_INDEX": 1,
    "DEV_NAME": 2,
    "PORT_INDEX": 3,
    "NODE_GUID": 6,
    "RES_SUMMARY": 15,
    "RES_SUMMARY_ENTRY": 16,
    "RES_SUMMARY_ENTRY_NAME": 17,
    "RES_SUMMARY_ENTRY_CURR": 18,
    "RES_LQPN": 21,
    "RES_PID": 28,
    "RES_KERN_NAME": 29,
    "RES_CQ": 35,
    "RES_USECNT": 38,
    "RES_PD": 46,
    "DEV_PROTOCOL": 67,
    "RES_CTX": 86,
}
SYS_ATTR_NETNS_MODE = 66


class RdmaDevice(NamedTuple):
    """One RDMA device as the kernel lists it in this network namespace."""

    dev_index: int
    name: str
    ports: int
    node_guid: int | None
    protocol: str | None  # None: not one of the protocols nldev has a name for (raw packets)


class Resource(NamedTuple):
    """A tracked object. `kernel` ones belong to the kernel itself (its GSI queue pair's)."""

    kernel: bool
    pid: int | None  # the creator, as seen from our pid namespace and while it lives
    users: int | None  # objects that refer to it; None: this kernel does not report it
    module: str | None = None  # of a kernel one: the module that made it


class RdmaNetlink(Protocol):
    """What is asked of the RDMA subsystem; every method raises OSError when the kernel refuses."""

    def devices(self) -> list[RdmaDevice]:
        """All devices of this network namespace."""

    def summary(self, index: int) -> dict[str, int]:
        """Tracked objects by kind ("qp", "cq", "ctx", ...), the kernel's own included."""

    def contexts(self, index: int) -> list[Resource]:
        """Open user contexts: one for each open() of the uverbs device."""

    def pds(self, index: int) -> list[Resource]:
        """Protection domains."""

    def cqs(self, index: int) -> list[Resource]:
        """Completion queues."""

    def raw_qp_tracked(self, index: int) -> bool:
        """Whether a queue pair numbered 0, hence a raw one, is in the tracking table.

        False proves nothing: of several raw queue pairs, all numbered 0, one is tracked, and the
        table is empty once that one has gone.
        """


class Nldev:
    """RdmaNetlink over a real socket; a context manager."""

    def __init__(self) -> None:
        self._sock = NetlinkSocket(NETLINK_RDMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def devices(self) -> list[RdmaDevice]:
        return [_device(attrs) for attrs in self._dump("GET")]

    def summary(self, index: int) -> dict[str, int]:
        counts = {}
        request = attr_u32(ATTRS["DEV_INDEX"], index)
        for _, body in self._sock.request(_kind("RES_GET"), body=request):
            table = parse_attrs(body).get(ATTRS["RES_SUMMARY"], b"")
            for _, entry in iter_attrs(table):
                fields = parse_attrs(entry)
                name = as_str(fields[ATTRS["RES_SUMMARY_ENTRY_NAME"]])
                counts[name] = as_int(fields[ATTRS["RES_SUMMARY_ENTRY_CURR"]])
        return counts

    def contexts(self, index: int) -> list[Resource]:
        return list(self._resources("RES_CTX_GET", "RES_CTX", index))

    def pds(self, index: int) -> list[Resource]:
        return list(self._resources("RES_PD_GET", "RES_PD", index))

    def cqs(self, index: int) -> list[Resource]:
        return list(self._resources("RES_CQ_GET", "RES_CQ", index))

    def raw_qp_tracked(self, index: int) -> bool:
        # Found, then refused: a raw queue pair carries port 0, which is no port one can ask
        # about (res_get_common_doit() answers EAGAIN to the mismatch).
        request = (
            attr_u32(ATTRS["DEV_INDEX"], index)
            + attr_u32(ATTRS["PORT_INDEX"], 1)
            + attr_u32(ATTRS["RES_LQPN"], 0)
        )
        try:
            self._sock.request(_kind("RES_QP_GET"), body=request)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return True
            if error.errno == errno.ENOENT:
                return False
            raise
        # A queue pair 0 of that very port: no raw one of this driver looks like that.
        raise OSError(errno.EPROTO, "queue pair 0 was answered in an unknown way")

    def netns_mode(self) -> str | None:
        """Whether RDMA devices are "shared" by all network namespaces, or "exclusive" to one."""
        for _, body in self._sock.request(_kind("SYS_GET")):
            mode = parse_attrs(body).get(SYS_ATTR_NETNS_MODE)
            if mode is not None:
                return "shared" if as_int(mode) else "exclusive"
        return None

    def dump_queue_pairs(self, index: int) -> int:
        """How many entries a dump of the queue pairs has: what `rdma res show qp` asks for."""
        return len(list(self._dump("RES_QP_GET", attr_u32(ATTRS["DEV_INDEX"], index))))

    def _resources(self, command: str, table: str, index: int) -> Iterator[Resource]:
        for attrs in self._dump(command, attr_u32(ATTRS["DEV_INDEX"], index)):
            for _, entry in iter_attrs(attrs.get(ATTRS[table], b"")):
                yield _resource(parse_attrs(entry))

    def _dump(self, command: str, body: bytes = b"") -> Iterator[dict[int, bytes]]:
        for _, answer in self._sock.dump(_kind(command), body):
            yield parse_attrs(answer)


def _kind(command: str) -> int:
    return (RDMA_NL_NLDEV << 10) + COMMANDS[command]


def _device(attrs: dict[int, bytes]) -> RdmaDevice:
    guid = attrs.get(ATTRS["NODE_GUID"])
    protocol = attrs.get(ATTRS["DEV_PROTOCOL"])
    return RdmaDevice(
        dev_index=as_int(attrs[ATTRS["DEV_INDEX"]]),
        name=as_str(attrs[ATTRS["DEV_NAME"]]),
        ports=as_int(attrs[ATTRS["PORT_INDEX"]]),
        node_guid=None if guid is None else as_int(guid),
        protocol=None if protocol is None else as_str(protocol),
    )


def _resource(attrs: dict[int, bytes]) -> Resource:
    pid = attrs.get(ATTRS["RES_PID"])
    users = attrs.get(ATTRS["RES_USECNT"])
    module = attrs.get(ATTRS["RES_KERN_NAME"])
    return Resource(
        kernel=module is not None,
        pid=None if pid is None else struct.unpack("=I", pid)[0] or None,
        users=None if users is None else as_int(users),
        module=None if module is None else as_str(module),
    )

"""The raw-QP proof against a kernel made of a few dictionaries, and the bytes it is sent."""

from __future__ import annotations

import errno
import logging
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manactl.look import raw_qp_probe
from manactl.look.raw_qp_probe import CommandFailed, Proof, UverbsDevice, prove_free, prove_on
from manactl.model.port import Evidence
from manactl.wire import uverbs as abi
from manactl.wire.uverbs import ProofOutcome
from tests.unit.wording import read, says, wording

NAMES = {
    1: "QUERY_DEVICE",
    18: "CREATE_CQ",
    20: "DESTROY_CQ",
    24: "CREATE_QP",
    27: "DESTROY_QP",
}
ANSWER_WORDS = {1: 44, 18: 4, 20: 2, 24: 12, 27: 1}


def u32(message: bytes, at: int) -> int:
    return int.from_bytes(message[at : at + 4], sys.byteorder)


def u64(message: bytes, at: int) -> int:
    return int.from_bytes(message[at : at + 8], sys.byteorder)


class FakeKernel:
    """Implements verbs.Device: hands out handles, keeps what lives, fails where it is told to."""

    via = "uverbs"

    def __init__(
        self,
        fail: dict[str, int] | None = None,
        vendor: int = 0x1414,
        part: int = 2,
        interrupt_after: str | None = None,
    ) -> None:
        self.pd = 7
        self.fail = fail or {}
        self.identity = (vendor, part)
        self.interrupt_after = interrupt_after
        self.memory: dict[int, bytearray] = {}
        self.log: list[str] = []
        self.sent: dict[str, bytes] = {}
        self.living: set[tuple[str, int]] = set()
        self.closed = False

    def page(self) -> int:
        address = 0x10000 + 0x1000 * len(self.memory)
        self.memory[address] = bytearray(4096)
        return address

    def fill(self, address: int, data: bytes) -> None:
        self.memory[address][: len(data)] = data

    def read32(self, address: int) -> int:
        page = self.memory[address & ~0xFFF]
        return u32(bytes(page), address & 0xFFF)

    def close(self) -> None:
        assert not self.living, "closing would leave the device open"
        self.closed = True

    def write(self, command: bytes) -> object:
        number, words, answer_words = struct.unpack_from("=IHH", command)
        name = NAMES[number]
        assert words * 4 == len(command)
        assert answer_words == ANSWER_WORDS[number]
        self.log.append(name)
        self.sent[name] = command
        if name in self.fail:
            raise OSError(self.fail[name], "refused")
        self.answer(name, command)
        if name == self.interrupt_after:
            raise KeyboardInterrupt
        return len(command)

    def answer(self, name: str, command: bytes) -> None:
        page = self.memory[u64(command, 8)]
        if name == "QUERY_DEVICE":
            page[40:48] = struct.pack("=II", *self.identity)
            page[168:176] = struct.pack("=HBB4x", 0, 0, 2)
        elif name.startswith("CREATE"):
            # Handles count from 0, which is why an answer page must not start out as zeroes.
            page[0:4] = struct.pack("=I", 0)
            self.living.add((name.removeprefix("CREATE_"), 0))
        else:
            self.living.remove((name.removeprefix("DESTROY_"), u32(command, 16)))


def prove(kernel: FakeKernel, port: int = 2) -> Proof:
    return prove_on(kernel, "manae_0", port, [])


def test_a_queue_pair_that_could_be_made_proves_the_vport_free() -> None:
    kernel = FakeKernel()
    proof = prove(kernel)
    assert proof.outcome is ProofOutcome.FREE
    assert (proof.errno, proof.where, proof.via) == (None, None, "uverbs")
    assert kernel.log == ["QUERY_DEVICE", "CREATE_CQ", "CREATE_QP", "DESTROY_QP", "DESTROY_CQ"]
    assert kernel.closed
    assert read([proof.evidence[-1]]) == read(
        [
            Evidence(
                "verbs",
                "RAW_PACKET QP on manae_0/2",
                {"made": True, "failure": None, "via": "uverbs"},
            )
        ]
    )
    with wording:
        assert proof.evidence[-1] == Evidence(
            "verbs",
            "RAW_PACKET QP on manae_0/2",
            {"made": True, "failure": None, "via": "uverbs"},
        )


def test_create_cq_is_laid_out_as_the_kernel_reads_it() -> None:
    kernel = FakeKernel()
    prove(kernel)
    sent = kernel.sent["CREATE_CQ"]
    assert len(sent) == 56
    assert u32(sent, 24) == 64
    assert u32(sent, 32) == 0xFFFFFFFF  # no completion channel
    assert u64(sent, 40) in kernel.memory  # the driver's part: the ring
    assert u32(sent, 48) == 0  # and flags 0: not an RNIC queue


def test_create_qp_is_laid_out_as_the_kernel_reads_it() -> None:
    kernel = FakeKernel()
    prove(kernel, port=1)
    sent = kernel.sent["CREATE_QP"]
    assert len(sent) == 80
    assert u32(sent, 24) == kernel.pd
    assert u32(sent, 28) == u32(sent, 32) == 0  # the CQ's handle
    assert [u32(sent, at) for at in range(36, 60, 4)] == [0, 64, 1, 1, 1, 0]
    assert sent[60:64] == bytes([0, 8, 0, 0])
    assert u64(sent, 64) in kernel.memory
    assert (u32(sent, 72), u32(sent, 76)) == (4096, 1)
    rings_and_answers = {
        u64(kernel.sent["CREATE_CQ"], 8),
        u64(kernel.sent["CREATE_CQ"], 40),
        u64(sent, 8),
        u64(sent, 64),
    }
    assert len(rings_and_answers) == 4  # a page each


def test_dealloc_pd_has_no_answer() -> None:
    assert abi.dealloc_pd(5) == struct.pack("=IHHI", 4, 3, 0, 5)


@pytest.mark.parametrize(
    ("where", "number", "outcome", "says"),
    [
        ("CREATE_QP", errno.EBUSY, ProofOutcome.TAKEN, "has an owner"),
        ("CREATE_QP", errno.ENODEV, ProofOutcome.TAKEN, "has an owner"),
        ("CREATE_QP", errno.EPERM, ProofOutcome.DENIED, "CAP_NET_RAW"),
        ("CREATE_QP", errno.EINVAL, ProofOutcome.CANNOT, "no such port"),
        ("CREATE_QP", errno.ENOMEM, ProofOutcome.CANNOT, "RLIMIT_MEMLOCK"),
        ("CREATE_QP", errno.EAGAIN, ProofOutcome.CANNOT, "rdma cgroup"),
        ("CREATE_QP", errno.ETIMEDOUT, ProofOutcome.CANNOT, "does not answer"),
        ("CREATE_QP", errno.EACCES, ProofOutcome.CANNOT, "changed its credentials"),
        ("CREATE_QP", errno.ENOSPC, ProofOutcome.CANNOT, "No space left"),
        ("CREATE_CQ", errno.EPERM, ProofOutcome.CANNOT, "RLIMIT_MEMLOCK is 0"),
        ("CREATE_CQ", errno.EBUSY, ProofOutcome.CANNOT, "EBUSY"),
        ("CREATE_CQ", errno.ENODEV, ProofOutcome.CANNOT, "ENODEV"),
        ("QUERY_DEVICE", errno.EIO, ProofOutcome.CANNOT, "being removed"),
    ],
)
def test_the_command_that_failed_decides_what_its_errno_means(
    where: str, number: int, outcome: ProofOutcome, says: str
) -> None:
    kernel = FakeKernel(fail={where: number})
    proof = prove(kernel)
    assert (proof.outcome, proof.where, proof.errno) == (outcome, where, number)
    with wording:
        assert says in proof.message
    assert kernel.closed
    assert not kernel.living
    assert proof.evidence[-1].value == {
        "made": False,
        "failure": f"{where}: {errno.errorcode[number]}",
        "via": "uverbs",
    }


@pytest.mark.parametrize("where", ["CREATE_CQ", "CREATE_QP"])
def test_an_interrupt_after_the_kernel_answered_leaves_nothing(where: str) -> None:
    kernel = FakeKernel(interrupt_after=where)
    with pytest.raises(KeyboardInterrupt):
        prove(kernel)
    assert kernel.closed
    assert not kernel.living


def test_a_queue_pair_that_cannot_be_destroyed_is_no_proof() -> None:
    kernel = FakeKernel(fail={"DESTROY_QP": errno.EIO})
    kernel.close = lambda: None  # type: ignore[method-assign]
    proof = prove(kernel)
    assert proof.outcome is ProofOutcome.CANNOT
    assert proof.where == "DESTROY_QP"


@pytest.mark.parametrize(
    ("vendor", "part", "says"),
    [
        (0x1414, 3, "is the RNIC"),
        (0, 3, "is the RNIC"),
        (0x15B3, 2, "not a MANA"),
        (0x1414, 5, "not a MANA"),
    ],
)
def test_a_wrong_device_is_refused_before_any_queue_is_made(
    vendor: int, part: int, says: str
) -> None:
    kernel = FakeKernel(vendor=vendor, part=part)
    proof = prove(kernel)
    assert proof.outcome is ProofOutcome.CANNOT
    with wording:
        assert says in proof.message
    assert kernel.log == ["QUERY_DEVICE"]
    assert kernel.closed


def test_the_one_device_of_old_kernels_has_no_ids_and_is_right() -> None:
    assert prove(FakeKernel(vendor=0, part=0)).outcome is ProofOutcome.FREE


@pytest.mark.parametrize("port", [0, 3])
def test_a_port_that_is_not_there_is_refused_before_any_queue_is_made(port: int) -> None:
    kernel = FakeKernel()
    proof = prove(kernel, port)
    assert proof.outcome is ProofOutcome.CANNOT
    with wording:
        assert "ports are 1 to 2" in proof.message
    assert kernel.log == ["QUERY_DEVICE"]


PCI = "7870:00:00.0"

# The character device. A plain file in its place takes the commands and answers nothing.


@pytest.fixture
def uverbs(tmp_path: Path) -> tuple[Path, Path]:
    for number, device in enumerate(["mana_0", "manae_0"]):
        entry = tmp_path / "sys/bus/pci/devices" / PCI / "infiniband_verbs" / f"uverbs{number}"
        entry.mkdir(parents=True)
        (entry / "ibdev").write_text(f"{device}\n")
        (entry / "dev").write_text("0:0\n")  # st_rdev of a plain file
    (tmp_path / "dev/infiniband").mkdir(parents=True)
    (tmp_path / "dev/infiniband/uverbs1").touch()
    return tmp_path / "sys", tmp_path / "dev"


def test_uverbs_opens_the_node_of_the_device_and_gets_context_and_pd(
    uverbs: tuple[Path, Path],
) -> None:
    sys_root, dev_root = uverbs
    device = UverbsDevice(PCI, "manae_0", str(sys_root), str(dev_root))
    page = device.page()
    device.fill(page, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    assert device.read32(page + 4) == int.from_bytes(b"\x05\x06\x07\x08", sys.byteorder)
    assert page % 4096 == 0
    device.close()
    written = (dev_root / "infiniband/uverbs1").read_bytes()
    assert [struct.unpack_from("=IHH", written, at) for at in (0, 16)] == [(0, 4, 2), (3, 4, 1)]
    assert len(written) == 32  # no DEALLOC_PD for a PD that never was


@pytest.mark.parametrize(("device", "number"), [("mana_0", errno.ENOENT), ("x", errno.ENOENT)])
def test_uverbs_says_that_the_node_is_missing(
    uverbs: tuple[Path, Path], device: str, number: int
) -> None:
    with pytest.raises(CommandFailed) as failed:
        UverbsDevice(PCI, device, str(uverbs[0]), str(uverbs[1]))
    assert (failed.value.where, failed.value.number) == ("open", number)


def test_a_device_of_that_name_on_another_function_is_not_opened(
    uverbs: tuple[Path, Path],
) -> None:
    with pytest.raises(CommandFailed, match=says("no uverbs device of 7871")):
        UverbsDevice("7871:00:00.0", "manae_0", str(uverbs[0]), str(uverbs[1]))
    assert (uverbs[1] / "infiniband/uverbs1").read_bytes() == b""


def test_a_node_that_was_given_to_another_device_gets_no_command(
    uverbs: tuple[Path, Path],
) -> None:
    """The function's uverbs1 is 231:193, and what was opened is not."""
    sys_root, dev_root = uverbs
    for entry in (sys_root / "bus/pci/devices" / PCI / "infiniband_verbs").iterdir():
        (entry / "dev").write_text("231:193\n")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandFailed, match=says("another device")) as failed:
        UverbsDevice(PCI, "manae_0", str(sys_root), str(dev_root))
    assert (failed.value.where, failed.value.number) == ("open", errno.ENXIO)
    assert (dev_root / "infiniband/uverbs1").read_bytes() == b""
    assert sorted(os.listdir("/proc/self/fd")) == before


# pyverbs, stood in for by packages that behave as the real one does at import.

BROKEN = 'raise ImportError("libibverbs.so.1: version `IBVERBS_PRIVATE_58\' not found")\n'
STAND_IN = {
    "__init__": "import logging\nlogging.basicConfig(level=logging.INFO)\n",
    "mem_alloc": "",
    "pd": "class PD: ...\n",
    "pyverbs_error": "class PyverbsError(Exception): ...\n",
    "device": (
        "from pyverbs.pyverbs_error import PyverbsError\n"
        "class Context:\n"
        "    def __init__(self, name):\n"
        "        raise PyverbsError(f'Failed to find device {name}')\n"
    ),
}


@pytest.fixture
def pyverbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str]], None]]:
    def install(modules: dict[str, str]) -> None:
        package = tmp_path / "site/pyverbs"
        package.mkdir(parents=True)
        for name, text in modules.items():
            (package / f"{name}.py").write_text(text)

    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyverbs"]:
        monkeypatch.delitem(sys.modules, name)
    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyverbs"]:
        del sys.modules[name]


def test_pyverbs_of_another_libibverbs_is_passed_over_with_a_word(
    pyverbs: Callable[[dict[str, str]], None],
) -> None:
    pyverbs({"__init__": "", "mem_alloc": BROKEN})
    proof = prove_free(PCI, "no_such_device", 1)
    assert (proof.outcome, proof.where, proof.via) == (ProofOutcome.CANNOT, "open", "uverbs")
    with wording:
        assert proof.evidence[0].fact == "pyverbs"
    assert "IBVERBS_PRIVATE_58" in str(proof.evidence[0].value)


def test_pyverbs_that_finds_no_device_leaves_the_errno_to_the_kernel(
    pyverbs: Callable[[dict[str, str]], None],
) -> None:
    pyverbs(STAND_IN)
    proof = prove_free(PCI, "no_such_device", 1)
    assert (proof.where, proof.errno) == ("open", errno.ENOENT)
    assert "Failed to find device" in str(proof.evidence[0].value)


def test_importing_pyverbs_keeps_the_root_logger(
    pyverbs: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pyverbs(STAND_IN)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    with pytest.raises(raw_qp_probe.PyverbsUnusable):
        raw_qp_probe.PyverbsDevice(PCI, "no_such_device")
    assert "pyverbs" in sys.modules
    assert root.handlers == []
    assert root.level == logging.WARNING


def test_missing_pyverbs_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyverbs", None)
    with pytest.raises(raw_qp_probe.PyverbsUnusable, match=says("not installed")):
        raw_qp_probe.PyverbsDevice(PCI, "manae_0")


def test_a_device_that_pyverbs_opened_by_a_name_of_another_function_is_left_at_once(
    pyverbs: Callable[[dict[str, str]], None], uverbs: tuple[Path, Path], tmp_path: Path
) -> None:
    """libibverbs goes by the name alone."""
    opened = tmp_path / "opened"
    opened.touch()
    device = (
        "import os\n"
        "class Context:\n"
        "    def __init__(self, name):\n"
        f"        self.cmd_fd = os.open({str(opened)!r}, os.O_RDWR)\n"
        "    def close(self):\n"
        "        os.close(self.cmd_fd)\n"
    )
    pd = "class PD:\n    handle = 5\n    def __init__(self, context): ...\n"
    pyverbs({**STAND_IN, "device": device, "pd": pd})
    sys_root, dev_root = map(str, uverbs)
    assert raw_qp_probe.PyverbsDevice(PCI, "manae_0", sys_root).pd == 5
    before = sorted(os.listdir("/proc/self/fd"))
    notes: list[Evidence] = []
    with pytest.raises(CommandFailed):
        raw_qp_probe.open_device("7871:00:00.0", "manae_0", notes, sys_root, dev_root)
    with wording:
        assert [note.value for note in notes] == [
            "manae_0 is not a device of 7871:00:00.0 any more"
        ]
    assert sorted(os.listdir("/proc/self/fd")) == before

"""The VMBus's Python side: its text files, its commands, and the sources' own agreements."""

from __future__ import annotations

import re
import struct

import pytest

from tests.lab.vmbus.build import SOURCE
from tests.lab.vmbus.host import QUEUES, SWITCH_PATH, Event, Host, parse_event, parse_nic, toeplitz

STATE = (
    "nic=4 uuid=02155d00-0001-0215-5d00-000102155d00 mac=02:15:5d:00:00:01 driver=hv_netvsc open=1 "
    "ready=1 nvsp=0x60001 path=vf told=1 associated=1 serial=0 link=0 muted=0 refuse=0 filter=0xd "
    "opens=3 switches=2 sent=10 received=11 dropped=1 queues=8 channels=2 "
    "rss=0x1701 key=6d5a table=0,1,1 sent_by=10,0 received_by=5,6\n"
    "nic=5 uuid=02155d00-0002-0215-5d00-000202155d00 mac=02:15:5d:00:00:02 driver=- open=0 "
    "ready=0 nvsp=0x0 path=synthetic told=0 associated=1 serial=0 link=1 muted=0 refuse=0 "
    "filter=0x0 opens=0 switches=0 sent=0 received=0 dropped=0 "
    "queues=1 channels=0 rss=0x0 key=00 table= sent_by=0,0 received_by=0,0\n"
)
HISTORY = "7 1500000000 4 open\n8 1600000000 4 path vf\n"


class Files:
    """The guest's debugfs directory."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def get(self, path: str) -> bytes:
        return {"state": STATE, "history": HISTORY, "violations": ""}[
            path.rsplit("/", maxsplit=1)[-1]
        ].encode()

    def put(self, path: str, text: str) -> None:
        assert path.startswith("/sys/kernel/debug/vmbus_lab/")
        if not path.endswith("/control"):
            text = f"{path.rsplit('/', maxsplit=1)[-1]} {text}"
        self.written.append(text)


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def host(files: Files) -> Host:
    return Host(files.get, files.put)


def test_a_line_of_the_state_is_a_nic() -> None:
    first, second = (parse_nic(line) for line in STATE.splitlines())
    assert (first.number, first.driver, first.path, first.filter) == (4, "hv_netvsc", "vf", 13)
    assert (first.open, first.ready, first.told, first.link) == (True, True, True, False)
    assert (first.opens, first.switches) == (3, 2)
    assert (first.sent, first.received, first.dropped) == (10, 11, 1)
    assert (first.queues, first.channels, first.rss, first.key) == (8, 2, 0x1701, "6d5a")
    assert (first.table, first.sent_by, first.received_by) == ((0, 1, 1), (10, 0), (5, 6))
    assert (second.driver, second.open, second.path) == (None, False, "synthetic")
    assert (second.channels, second.table) == (0, ())


def test_a_line_of_the_history_may_have_several_words() -> None:
    assert parse_event("8 1600000000 4 path vf") == Event(8, 1.6, 4, "path vf")


def test_history_goes_on_from_a_mark(host: Host) -> None:
    assert host.mark() == 9
    assert [event.text for event in host.history(8)] == ["path vf"]
    assert host.violations() == []


def test_commands_name_the_nic_by_its_number_now(host: Host, files: Files) -> None:
    host.offer("02:15:5d:00:00:03", serial=7, associated=False)
    host.rescind("02:15:5d:00:00:02")
    host.set("02:15:5d:00:00:01", muted=True, refuse=101)
    host.delay("02:15:5d:00:00:01", SWITCH_PATH, 300)
    host.unmute()
    assert files.written == [
        "offer 02:15:5d:00:00:03 serial=7 associated=0",
        "rescind 5",
        "set 4 muted=1 refuse=101",
        "set 4 delay=129:300",
        "set 4 muted=0 hold=0 refuse=0 delay=0:0 keep_path=0 queues=8",
        "set 5 muted=0 hold=0 refuse=0 delay=0:0 keep_path=0 queues=8",
    ]


def test_violations_are_cleared_by_a_write(host: Host, files: Files) -> None:
    host.clear_violations()
    assert files.written == ["violations 0"]


def test_an_address_that_is_not_offered_is_an_error(host: Host) -> None:
    with pytest.raises(LookupError, match="02:15:5d:00:00:09"):
        host.nic("02:15:5d:00:00:09")


def test_a_nic_has_as_many_queues_as_the_module_says() -> None:
    text = (SOURCE / "lab.h").read_text()
    assert re.findall(r"(?m)^#define QUEUES (\d+)", text) == [str(QUEUES)]


def test_the_hash_is_microsoft_s() -> None:
    """By the vectors that are published with it."""
    key = bytes.fromhex(
        "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
    )
    addresses = bytes((66, 9, 149, 187, 161, 142, 100, 80))
    assert toeplitz(key, addresses) == 0x323E8FC2
    assert toeplitz(key, addresses + struct.pack(">HH", 2794, 1766)) == 0x51CCC178


def test_every_exported_name_has_its_other_name() -> None:
    """On kernels with the VMBus built in, an export that is not renamed would not load."""
    text = "".join(path.read_text() for path in SOURCE.glob("*.c"))
    exported = set(re.findall(r"EXPORT_SYMBOL_GPL\((\w+)\)", text))
    names = dict(re.findall(r"(?m)^#define (\w+) (lab_\w+)$", (SOURCE / "names.h").read_text()))
    assert exported == names.keys()
    assert names == {name: f"lab_{name}" for name in exported}


def test_every_source_is_built() -> None:
    built = set(re.findall(r"(\w+)\.o\b", (SOURCE / "Kbuild").read_text()))
    assert built == {path.stem for path in SOURCE.glob("*.c")}

"""A file system that does not answer, and one whose server is gone, below a path that looks like a
uverbs device: nobody waits for it, and whoever really holds the device is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import manactl
from tests.conftest import lacking

pytestmark = pytest.mark.netns
ROOT = Path(__file__).parents[2]
# The search for holders, the guards and all that they read of processes, over the real /proc.
LOOK = """
import os, socket, subprocess
from manactl.look import procfs
from manactl.look.rtnetlink import Rtnl
from manactl.look.surroundings import gather
from manactl.model.port import Certainty, Netdev, Owner, PortId, PortStatus
null = os.open("/dev/null", os.O_RDONLY)
rdev = os.fstat(null).st_rdev
found = procfs.holders("/proc", [rdev])
assert os.getpid() in [one.pid for one in found.of[rdev]], found
subprocess.run(["ip", "link", "add", "port0", "type", "veth", "peer", "name", "wire0"], check=True)
index, port = socket.if_nametoindex("port0"), PortId("0000:00:00.0", 1, None)
netdev = Netdev("port0", index, None, None, None, None, None)
status = PortStatus(port, netdev, None, None, None, Owner.ETHERNET, Certainty.PROVEN)
with Rtnl() as rtnl:
    around = gather(status, rtnl.capture(port, index, 0.0), [index], rtnl)
assert around.connections is not None and around.storage is not None, around
print("looked")
"""


@pytest.mark.parametrize("kind", ["silent", "dead"])
def test_a_file_system_without_an_answer_hides_no_holder(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "uverbs"
    place.mkdir()
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(ROOT / "tests/netns/fuse.py"), kind, str(place),
         sys.executable, "-c", LOOK],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(manactl.__file__).parents[1])},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    for missing in ("/dev/fuse", "Operation not permitted"):
        if done.returncode and missing in done.stderr.splitlines()[-1]:
            lacking("fuse", done.stderr.splitlines()[-1])
    assert (done.returncode, done.stdout) == (0, "looked\n"), done.stderr

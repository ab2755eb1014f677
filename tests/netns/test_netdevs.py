"""Links for guards: read as they are or decoded by pyroute2, the same is seen."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

CODE = """
import sys
from manactl.look import netdevs
found = netdevs.links()
imported = "pyroute2" in sys.modules
from manactl.look import pyroute2_links
assert found == pyroute2_links.links(), (found, pyroute2_links.links())
print(imported, *(link.name for link in found))
"""


def seen() -> list[str]:
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, text=True, env=env
    )
    return done.stdout.split()


def test_pyroute2_is_imported_only_where_there_is_something_to_decode() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    assert seen() == ["False", "lo"]
    subprocess.run(["ip", "link", "add", "br0", "type", "bridge"], check=True)
    imported, *names = seen()
    assert (imported, "br0" in names) == ("True", True)

"""Record what a kernel shows of its ports' owners, for the unit tests: sysfs, debugfs, nldev.

    python3 -m tests.lab.capture 7 tests/data

writes one file per state of two ports: idle, and the first up beside a raw QP on the second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.lab.users import user
from tests.lab.vm import Vm


def main(kernel: str, directory: str) -> None:
    with Vm(kernel, ports=2) as vm:
        run = ["python3", "-m", "tests.lab.guest.shapes"]

        def write(state: str) -> None:
            seen = json.loads(vm.run(run).out)
            about = (
                "Recorded by tests/lab/capture.py in the lab's guest: the unmodified drivers of "
                f"Debian's kernel {seen['kernel']} on the emulated NIC, two ports; {state}."
            )
            name = Path(directory) / f"{kernel}-{state.replace(' ', '-')}.json"
            name.write_text(json.dumps({"provenance": about, **seen}, indent=1) + "\n")

        for name in vm.netdevs.values():
            vm.run(["ip", "link", "set", name, "down"])
        write("idle")
        vm.run(["ip", "link", "set", vm.netdevs[1], "up"])
        with user(vm, "rawqp") as holder:
            holder.wait_for("ready")
            holder.ask("create 2", "created")
            write("raw qp on port 2")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

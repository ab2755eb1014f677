"""One QMP command at a time: enough to unplug the NIC or to ask for the VM's state."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from .errors import LabError


def execute(path: Path, command: str, arguments: dict[str, Any], timeout: float = 60) -> Any:
    """Run one command on QEMU's monitor socket and return what it returns."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(str(path))
        stream = sock.makefile("rw")
        json.loads(stream.readline())  # the greeting
        for words in (
            {"execute": "qmp_capabilities"},
            {"execute": command, "arguments": arguments},
        ):
            stream.write(json.dumps(words) + "\n")
            stream.flush()
            answer = {}
            while "return" not in answer and "error" not in answer:  # events come in between
                answer = json.loads(stream.readline() or '{"error": {"desc": "QEMU is gone"}}')
            if "error" in answer:
                raise LabError(f"QMP {command}: {answer['error']['desc']}")
        return answer["return"]

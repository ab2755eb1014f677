"""A file system whose server has answered until a file of it was open, and then says nothing more,
or is gone. Without libfuse: include/uapi/linux/fuse.h.

Run as a program in a mount namespace of its own, before what is given to be executed:
fuse.py silent|dead DIRECTORY COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading

_NEWNS, _REC, _PRIVATE = 0x20000, 0x4000, 1 << 18
_IN, _OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
_INIT, _LOOKUP, _GETATTR, _OPEN = 26, 1, 3, 14
_DIRECTORY, _FILE = 0o40755, 0o100644
_libc = ctypes.CDLL(None, use_errno=True)


def _attr(mode: int) -> bytes:
    return struct.pack("=6Q3I7I", 2, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 512, 0)


def _answer(opcode: int, node: int) -> bytes | None:
    """Nothing is valid for any time: every look asks again."""
    if opcode == _INIT:
        return struct.pack("=4I2H2I2HI7I", 7, 31, 4096, 0, 4, 3, 4096, 1, 1, 0, 0, *([0] * 7))
    if opcode == _LOOKUP:
        return struct.pack("=4Q2I", 2, 1, 0, 0, 0, 0) + _attr(_FILE)
    if opcode == _GETATTR:
        return struct.pack("=Q2I", 0, 0, 0) + _attr(_DIRECTORY if node == 1 else _FILE)
    return struct.pack("=Q2I", 1, 0, 0) if opcode == _OPEN else None


def serve(device: int) -> None:
    """Answer until a file is open."""
    while True:
        _, opcode, unique, node, *_ = _IN.unpack_from(os.read(device, 1 << 18))
        body = _answer(opcode, node)
        code = 0 if body is not None else -38  # ENOSYS
        data = body or b""
        os.write(device, _OUT.pack(_OUT.size + len(data), code, unique) + data)
        if opcode == _OPEN:
            return


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(kind: str, directory: str, *command: str) -> int:
    _checked(_libc.unshare(_NEWNS))
    _checked(_libc.mount(None, b"/", None, _REC | _PRIVATE, None))
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    _checked(_libc.mount(b"none", directory.encode(), b"fuse", 0, options.encode()))
    server = threading.Thread(target=serve, args=(device,), daemon=True)
    server.start()
    # A process of its own has it open: ours is not to wait for the server when it ends.
    holder = subprocess.Popen(
        [sys.executable, "-c", "import os, sys; os.open(sys.argv[1], 0); print('open', flush=True);"
         " os.read(0, 1)", f"{directory}/uverbs0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    server.join()
    if kind == "dead":
        os.close(device)
    try:
        return subprocess.run(command, check=False, timeout=60).returncode
    finally:
        if kind == "silent":
            os.close(device)  # else the holder's close() would wait
        holder.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

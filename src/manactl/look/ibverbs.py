"""Which RDMA devices libibverbs lists: those that programs in user space can open.

That is for libibverbs to say. A provider can be there and not be announced (/etc/libibverbs.d), be
of another ABI, or come from a place of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from manactl.look.forked import Child

_LIBRARY = "libibverbs.so.1"
_PATIENCE = 5.0  # s; a driver that waits for its device holds up whoever lists devices
_LONGEST = 30.0  # s, while the child that lists them is seen to run


def listed(
    ask: Callable[[], tuple[str, ...]] | None = None, wait: float = _PATIENCE
) -> tuple[str, ...] | None:
    """The names as `ibv_devices` prints them; None when the library is not there or not answering.

    A child asks, since the library loads plug-ins, and may block in the kernel.
    """
    answer = Child(ask or _ask).collect(wait, max(wait, _LONGEST))
    return answer if isinstance(answer, tuple) else None


def _ask(library: str = _LIBRARY) -> tuple[str, ...]:
    verbs = ctypes.CDLL(library)
    verbs.ibv_get_device_list.restype = ctypes.POINTER(ctypes.c_void_p)
    verbs.ibv_get_device_list.argtypes = (ctypes.POINTER(ctypes.c_int),)
    verbs.ibv_get_device_name.restype = ctypes.c_char_p
    verbs.ibv_get_device_name.argtypes = (ctypes.c_void_p,)
    count = ctypes.c_int()
    devices = verbs.ibv_get_device_list(ctypes.byref(count))
    if not devices:  # ENOSYS: no uverbs in this kernel
        return ()
    names = [verbs.ibv_get_device_name(devices[at]) for at in range(count.value)]
    return tuple(name.decode(errors="surrogateescape") for name in names if name)

"""The one place where a request of the command channel is answered.

Bytes in, bytes out. Handlers register with `on`; each gets the decoded body and returns the fields
of the answer, or raises Refused. Status and headers are set here and nowhere else, so that whoever
wants a request answered differently (late, wrongly, not at all) has one place to stand.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.lab.nic.memory import DmaFault
from tests.lab.nic.rings import RingError
from tests.lab.nic.wire import rnic as _rnic  # noqa: F401  (adds its messages to the table)
from tests.lab.nic.wire.messages import (
    MESSAGES,
    REQUEST_HEADER,
    RESPONSE_HEADER,
    Request,
    Status,
    request_name,
)

if TYPE_CHECKING:
    from tests.lab.nic.function import Function

MAX_RESPONSE = 4096


class Refused(Exception):
    """The answer is a failure status, with a body of zeros."""

    def __init__(self, why: str, status: int = Status.INVALID) -> None:
        super().__init__(why)
        self.status = status


@dataclass(slots=True)
class Call:
    """A request as its handler sees it, beside the decoded body."""

    code: int
    device: int  # the type half of the device id in the header
    message: bytes
    response_version: int
    status: int = Status.OK  # a handler may set MORE_ENTRIES and still answer with a body
    facts: dict[str, Any] = field(default_factory=dict)  # for the history


Fields = Mapping[str, Any]
Handler = Callable[["Function", Call, Any], Fields | None]
HANDLERS: dict[int, Handler] = {}
REFUSALS: dict[int, Callable[[Function, bytes], None]] = {}  # run after a refusal of that type


def on(request: Request) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        if request in HANDLERS:
            raise ValueError(f"{request.name} registered twice")
        HANDLERS[request] = handler
        return handler

    return register


def answer(function: Function, message: bytes, refuse: int | None = None) -> bytes:
    """The whole response to a whole request, as long as the driver asked for.

    `refuse` is the status of a fault: nothing is done then.
    """
    header = REQUEST_HEADER.unpack(message)
    call = Call(header.code, header.device_type, message, header.response_version)
    if refuse is None:
        body = _act(function, call)
    else:
        body, call.status = b"", refuse
        call.facts["why"] = "fault"
    if call.status not in {Status.OK, Status.MORE_ENTRIES} and call.code in REFUSALS:
        REFUSALS[call.code](function, message)
    facts = {"name": request_name(call.code), "device": call.device, "status": call.status}
    function.record.event("request", **facts, **call.facts)
    room = max(RESPONSE_HEADER.size, min(header.response_size, MAX_RESPONSE))
    head = RESPONSE_HEADER.pack(
        code=header.response_code,
        version=header.response_version,
        message_id=header.message_id,
        size=header.response_size,
        device_type=header.device_type,
        device_instance=header.device_instance,
        activity=header.activity,
        status=call.status,
    )
    # Fields that only a newer driver asks for read as zeros; those an older one lacks are cut.
    return (head + body)[:room].ljust(room, b"\0")


def _act(function: Function, call: Call) -> bytes:
    handler = HANDLERS.get(call.code)
    if handler is None:
        call.status = Status.UNSUPPORTED
        call.facts["why"] = "not implemented"
        return b""
    layouts = MESSAGES[Request(call.code)]
    try:
        body = layouts.request.unpack(call.message[layouts.request.base :])
        return layouts.response.pack(**(handler(function, call, body) or {}))
    except Refused as refused:
        call.status = refused.status
        call.facts["why"] = str(refused)
    except (DmaFault, RingError) as error:
        call.status = Status.INVALID
        rule = "dma" if isinstance(error, DmaFault) else "ring"
        function.record.violation(rule, f"{request_name(call.code)}: {error}")
    except Exception:  # noqa: BLE001  (an answer must go out; the violation fails the test)
        call.status = Status.INVALID
        function.record.violation("exception", traceback.format_exc())
    return b""

"""Questions to the oracle: JSON lines, one request and one answer each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.lab.nic.config import parse_mac
from tests.lab.nic.device import Nic
from tests.lab.nic.faults import Fault
from tests.lab.nic.memory import DmaFault
from tests.lab.nic.record import Record
from tests.lab.nic.rings import RingError

Json = dict[str, Any]


class Control:
    """The operations; `stop` becomes true when somebody asked the server to quit."""

    def __init__(self, nic: Nic, record: Record) -> None:
        self.nic = nic
        self.record = record
        self.stop = False
        self._operations: dict[str, Callable[[Json], Json]] = {
            "state": self._state,
            "history": self._history,
            "violations": self._violations,
            "clear-violations": self._clear_violations,
            "objects": self._objects,
            "log": self._log,
            "link": self._link,
            "stations": self._stations,
            "exceptions": self._exceptions,
            "course": self._course,
            "courses": self._courses,
            "reset-request": self._reset_request,
            "service": self._service,
            "timeout": self._timeout,
            "fault": self._fault,
            "faults": self._faults,
            "let-go": self._let_go,
            "clear-faults": self._clear_faults,
            "quit": self._quit,
        }

    def answer(self, line: str | bytes) -> bytes:
        try:
            request = json.loads(line)
            operation = self._operations[request["op"]]
        except (ValueError, KeyError, TypeError):
            known = ", ".join(sorted(self._operations))
            return _line({"ok": False, "error": f"not a request; operations: {known}"})
        try:
            return _line({"ok": True, **operation(request)})
        except (DmaFault, RingError) as error:  # the guest's rings are not what they were
            rule = "dma" if isinstance(error, DmaFault) else "ring"
            self.record.violation(rule, f"{request['op']}: {error}")
            return _line({"ok": False, "error": f"{rule}: {error}"})
        except (ValueError, KeyError, TypeError) as error:
            return _line({"ok": False, "error": f"{type(error).__name__}: {error}"})

    def _state(self, request: Json) -> Json:
        return {"seq": self.record.sequence, **self.nic.state()}

    def _history(self, request: Json) -> Json:
        events = self.record.since(int(request.get("since", 0)))
        return {"seq": self.record.sequence, "events": events}

    def _violations(self, request: Json) -> Json:
        return {"violations": self.record.violations}

    def _clear_violations(self, request: Json) -> Json:
        cleared = len(self.record.violations)
        self.record.violations.clear()
        return {"cleared": cleared}

    def _objects(self, request: Json) -> Json:
        return {"objects": self.nic.objects()}

    def _log(self, request: Json) -> Json:
        count = int(request.get("lines", 200))
        return {"lines": list(self.record.lines)[-count:] if count > 0 else []}

    def _link(self, request: Json) -> Json:
        return {"sent": self.nic.set_link(bool(request["up"]))}

    def _stations(self, request: Json) -> Json:
        return {"stations": self.nic.fabric.facts()}

    def _exceptions(self, request: Json) -> Json:
        self.nic.fabric.exceptions = bool(request["on"])
        return {}

    def _course(self, request: Json) -> Json:
        into, out_of, count, seed = (int(request[n]) for n in ("into", "out_of", "count", "seed"))
        to = parse_mac(request["to"])
        rewritten = bool(request.get("rewritten"))
        self.nic.start_course(into, out_of, to, count, seed, rewritten=rewritten)
        return {}

    def _courses(self, request: Json) -> Json:
        return {"courses": self.nic.courses()}

    def _reset_request(self, request: Json) -> Json:
        return {"sent": self.nic.request_reset()}

    def _service(self, request: Json) -> Json:
        return {"sent": self.nic.service(request["name"])}

    def _timeout(self, request: Json) -> Json:
        self.nic.set_timeout(request["ms"])
        return {}

    def _fault(self, request: Json) -> Json:
        self.nic.faults.add(Fault(**{k: v for k, v in request.items() if k != "op"}))
        return self._faults(request)

    def _faults(self, request: Json) -> Json:
        return {"faults": self.nic.faults.facts()}

    def _let_go(self, request: Json) -> Json:
        return {"answered": self.nic.faults.let_go()}

    def _clear_faults(self, request: Json) -> Json:
        return {"left": self.nic.faults.clear()}

    def _quit(self, request: Json) -> Json:
        self.stop = True
        return {}


def _line(answer: Json) -> bytes:
    return json.dumps(answer).encode() + b"\n"

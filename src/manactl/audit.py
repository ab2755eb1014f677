"""One line per claim, release and refusal in the system log: who, what, with what result."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from manactl.errors import ManactlError


class Audit:
    """Writes the line when the `with` block is left, however that happens.

    `fields` may be added to meanwhile. Values are JSON, so that no name can forge a field.
    """

    def __init__(self, verb: str, by: Mapping[str, object], words: Iterable[str]) -> None:
        self.fields: dict[str, object] = {"verb": verb, "asked": list(words), **by}
        self.quiet = False  # nothing was asked of the kernel: a dry run, nothing claimed
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.quiet:
            return
        result: object = "done"
        if isinstance(error, ManactlError):
            result = error.code
            self.fields["why"] = error.message
            self.fields["exit"] = error.exit_code
        elif kind is not None:
            result = kind.__name__
        self.fields["duration_ms"] = round((time.monotonic() - self._start) * 1000)
        _write({"result": result, **self.fields}, failed=error is not None)


def _write(fields: Mapping[str, object], *, failed: bool) -> None:
    import syslog  # noqa: PLC0415 - `status` and `--help` have nothing to say there

    words = [f"{name}={json.dumps(value)}" for name, value in fields.items() if value is not None]
    syslog.openlog("manactl", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING if failed else syslog.LOG_NOTICE, " ".join(words))

"""Getting a port back from its holders: waiting for them, or asking them to end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from manactl.act import terminate as ending
from manactl.act import transition
from manactl.act.claim import WAIT
from manactl.act.host import Host
from manactl.act.plan import System
from manactl.errors import Busy
from manactl.model.port import Holder, Owner, PortId


def await_free(
    host: Host,
    system: System,
    ports: Sequence[PortId],
    free: Collection[tuple[str, int]],
    sent: list[Holder],
    *,
    wait: float | None,
    terminate: bool,
    say: Callable[[str], None],
) -> None:
    """Wait until no raw QP has any of the ports; Busy, naming the holders, when one still has.

    `free` are the ports known to be free by other evidence than a proof; `sent` gets the holders
    that were sent SIGTERM.
    """

    def attempt(within: float) -> None:
        transition.await_free(
            system, ports, within, known=lambda port: (port.pci, port.port) in free
        )

    if wait is None and not terminate:
        attempt(WAIT)
        return
    patience = ending.WAIT if wait is None else wait
    start = system.monotonic()
    try:
        attempt(0.0)
        return
    except Busy as busy:
        if not terminate:
            say(f"{busy.message.partition(';')[0]}; waiting up to {patience:g} s")
    try:
        if terminate:
            ending.terminate(
                ending.holders_to_end(host.look(), ports),
                lambda: [holder for port in ports for holder in system.holders(port)],
                sent,
                patience,
                say,
                processes=host.processes,
            )
        attempt(max(WAIT if terminate else 0.0, patience - (system.monotonic() - start)))
    except Busy as busy:
        raise ending.not_ended(busy, sent, system.monotonic() - start) from busy


def would_end(host: Host, ports: Sequence[PortId]) -> list[str]:
    """For a dry run: who would be sent SIGTERM, or why nobody."""
    report = host.look()
    keys = {(port.pci, port.port) for port in ports}
    if not any(
        (row.id.pci, row.id.port) in keys and (row.owner is Owner.RAW_QP or row.candidates)
        for row in report.ports
    ):
        return []
    try:
        return [f"SIGTERM to {ending.named(ending.holders_to_end(report, ports))}"]
    except Busy as busy:
        return [busy.message]

"""`manactl status`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import color_option, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manactl.journal import ClaimSummary
    from manactl.model import Missing, PortStatus, Report


@click.command(short_help="Show who owns each port, and how that is known.")
@click.argument("words", nargs=-1, metavar="[PORT]...")
@click.option("-v", "--verbose", is_flag=True, help="Show the evidence and where it came from.")
@json_option
@color_option
@click.pass_obj
def status(app: App, words: tuple[str, ...], verbose: bool, as_json: bool, color: str) -> None:
    """Show who owns the vport of each PORT (all of them without PORT).

    \b
    ethernet  the netdev has it: it is up
    raw-qp    a raw queue pair has it (DPDK, for instance)
    free      nobody has it
    unknown   what can be seen from here does not decide

    PORT is a netdev, an altname, the name of the master above it, PCI:port, a permanent MAC or
    rdma-device/port.
    """
    from manactl.look import look, resolve  # noqa: PLC0415 - not for --help

    claims, unread = _claims(app)
    report = look(claims=claims, missing=unread)
    ports: Sequence[PortStatus] = resolve(report, words) if words else report.ports
    if as_json:
        from manactl.render.document import status_document  # noqa: PLC0415

        app.document(status_document(report, ports))
    else:
        _show(app, report, ports, verbose=verbose, color=color)


def _show(
    app: App, report: Report, ports: Sequence[PortStatus], *, verbose: bool, color: str
) -> None:
    plain_terminal = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    if color == "always" or (color == "auto" and sys.stdout.isatty() and not plain_terminal):
        from manactl.render import table  # noqa: PLC0415 - rich only for a terminal

        table.show(report, ports, verbose=verbose, force_color=color == "always")
        return
    from manactl.render.status import plain  # noqa: PLC0415

    app.out(*plain(report, ports, verbose=verbose))


def _claims(app: App) -> tuple[list[ClaimSummary], list[Missing]]:
    """What the journals say is out; why they could not be read, if they could not."""
    if not os.path.lexists(app.state_dir):
        return [], []
    from manactl.errors import ManactlError  # noqa: PLC0415
    from manactl.journal import list_claims  # noqa: PLC0415
    from manactl.model import Missing  # noqa: PLC0415

    try:
        return list_claims(app.state_dir), []
    except OSError as error:
        return [], [Missing("journal", f"{app.state_dir}: {error.strerror}")]
    except ManactlError as error:  # a broken journal must not hide the ports
        return [], [Missing("journal", error.message)]

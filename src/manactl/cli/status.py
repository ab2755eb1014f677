"""`manactl status`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import PORT, color_option, json_option
from manactl.errors import strerror

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manactl.model.claim import ClaimSummary
    from manactl.model.port import Missing, PortStatus, Report
    from manactl.render.changes import Key


@click.command(short_help="Show who owns each port, and how that is known.")
@click.argument("words", nargs=-1, metavar="[PORT]...", type=PORT)
@click.option("-v", "--verbose", is_flag=True, help="Show the evidence and where it came from.")
@json_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["prometheus"]),
    help="Print metrics in the text format of Prometheus.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the metrics to FILE, which readers find whole at any time.",
)
@click.option("--watch", is_flag=True, help="Show every change, until ^C.")
@color_option
@click.pass_obj
def status(  # noqa: PLR0917 - click passes them by name
    app: App,
    words: tuple[str, ...],
    verbose: bool,
    as_json: bool,
    form: str | None,
    output: str | None,
    watch: bool,
    color: str,
) -> None:
    """Show who owns the vport of each PORT (all of them without PORT).

    \b
    ethernet  the netdev has it: it is up
    raw-qp    a raw queue pair has it (DPDK, for instance)
    free      it has no owner
    unknown   what can be read here does not decide: treat it as taken

    PORT is a netdev, an altname, the name of its master, PCI:port, a permanent MAC or
    rdma-device/port.
    """
    if as_json and form:
        raise click.UsageError("--json and --format exclude each other")
    if output and not form:
        raise click.UsageError("--output needs --format")
    if watch:
        if form and not output:
            raise click.UsageError("--watch with --format needs --output")
        _watch(app, words, verbose=verbose, as_json=as_json, output=output, color=color)
        return
    from manactl.decide.port_names import resolve  # noqa: PLC0415 - not for --help

    report = _look(app)
    ports: Sequence[PortStatus] = resolve(report, words) if words else report.ports
    if form:
        _metrics(app, report, ports, output)
    elif as_json:
        from manactl.render.document import status_document  # noqa: PLC0415

        app.document(status_document(report, ports))
    else:
        _show(app, report, ports, verbose=verbose, color=color)


def _look(app: App) -> Report:
    from manactl.look import boot_files  # noqa: PLC0415 - not for --help
    from manactl.report import look  # noqa: PLC0415

    claims, unread = _claims(app)
    report = look(claims=claims, missing=unread, boot_files=boot_files.find())
    odd = boot_files.of_no_use(port.id for port in report.ports)
    if not odd:
        return report
    from manactl.decide.port_words import odd_file  # noqa: PLC0415 - rare
    from manactl.model.port import Missing, Source  # noqa: PLC0415

    return report._replace(
        missing=(*report.missing, *(Missing(Source.BOOT_FILES, odd_file(one)) for one in odd))
    )


def _metrics(app: App, report: Report, ports: Sequence[PortStatus], output: str | None) -> None:
    from manactl.render.prometheus import exposition  # noqa: PLC0415

    text = exposition(report, ports)
    if output is None:
        app.out(*text.removesuffix("\n").split("\n"))
        return
    from pathlib import Path  # noqa: PLC0415

    from manactl.render import atomic_file  # noqa: PLC0415

    atomic_file.write(Path(output), text)


def _watch(
    app: App,
    words: tuple[str, ...],
    *,
    verbose: bool,
    as_json: bool,
    output: str | None,
    color: str,
) -> None:
    from manactl.cli import watch as watching  # noqa: PLC0415 - not for a single look

    chosen = watching.Chosen(words)
    # Subscribing to RDMA announcements would load ib_core where it is not loaded.
    rdma = os.path.isdir("/sys/class/infiniband")

    def look() -> watching.View:
        return chosen(_look(app))

    if as_json:
        watching.watch(look, watching.JsonLines(), rdma=rdma)
    elif output:
        from pathlib import Path  # noqa: PLC0415

        watching.watch(look, watching.MetricsFile(Path(output)), rdma=rdma)
    elif sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from manactl.render.table import lines  # noqa: PLC0415 - rich only for a terminal

        def paint(view: watching.View, width: int, marked: frozenset[Key]) -> list[str]:
            return lines(*view, verbose=verbose, width=width, color=_colored(color), marked=marked)

        watching.on_terminal(look, paint, rdma=rdma)
    else:
        from manactl.render.status import plain  # noqa: PLC0415

        def block(view: watching.View) -> list[str]:
            return list(plain(*view, verbose=verbose))

        watching.watch(look, watching.Blocks(app, block), rdma=rdma)


def _colored(color: str) -> bool:
    """Whether to colour standard output."""
    plain_terminal = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return color == "always" or (color == "auto" and sys.stdout.isatty() and not plain_terminal)


def _show(
    app: App, report: Report, ports: Sequence[PortStatus], *, verbose: bool, color: str
) -> None:
    if _colored(color):
        from manactl.render import table  # noqa: PLC0415 - rich only for a terminal

        table.show(report, ports, verbose=verbose, force_color=color == "always")
        return
    from manactl.render.status import plain  # noqa: PLC0415

    app.out(*plain(report, ports, verbose=verbose))


def _claims(app: App) -> tuple[list[ClaimSummary], list[Missing]]:
    """What the journals report as claimed; why they could not be read, if they could not."""
    if not os.path.lexists(app.state):
        return [], []
    with contextlib.suppress(OSError):  # list_claims() tells why
        # Whoever claimed once has an empty directory: that is no reason to import the journal.
        if not any(name.endswith(".journal") for name in os.listdir(f"{app.state}/claims")):
            return [], []
    from manactl.errors import ManactlError  # noqa: PLC0415
    from manactl.journal.file import list_claims  # noqa: PLC0415
    from manactl.model.port import Missing, Source  # noqa: PLC0415

    try:
        claims, unreadable = list_claims(app.state_dir)
        # A broken journal must hide neither the ports nor the other claims.
        return claims, [Missing(Source.JOURNAL, journal.error.message) for journal in unreadable]
    except OSError as error:
        return [], [Missing(Source.JOURNAL, f"{app.state}: {strerror(error)}")]
    except ManactlError as error:
        return [], [Missing(Source.JOURNAL, error.message)]

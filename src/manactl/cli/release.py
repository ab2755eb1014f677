"""`manactl release`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import CLAIMED
from manactl.errors import ManactlError, UsageError

if TYPE_CHECKING:
    from manactl.act.released import ReleaseRequest


@click.command(short_help="Restore claimed ports as they were.")
@click.argument("words", nargs=-1, metavar="[PORT]...", type=CLAIMED)
@click.option("--all", "everything", is_flag=True, help="Release every claimed port.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    metavar="SECONDS",
    help="Wait so long for holders to end, for another manactl, and for STP or LACP to forward.",
)
@click.option("--terminate", is_flag=True, help="Send SIGTERM to the holders, and wait for them.")
@click.option("--dry-run", is_flag=True, help="Show what would be restored, and stop.")
@click.option("-v", "--verbose", is_flag=True, help="Show the whole plan before it is executed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def release(  # noqa: PLR0917 - click passes by keyword
    app: App,
    words: tuple[str, ...],
    everything: bool,
    wait: float | None,
    terminate: bool,
    dry_run: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Set the netdev of each PORT up again and restore all that the claim saved.

    Without PORT: the only claim. Also recovers a claim or a release that was interrupted.
    """
    if everything and words:
        raise UsageError("--all and PORT exclude each other", hint="manactl release --all")
    from manactl.act.released import ReleaseRequest  # noqa: PLC0415 - not for --help

    request = ReleaseRequest(
        app.state_dir,
        words,
        everything=everything,
        dry_run=dry_run,
        wait=wait,
        terminate=terminate,
    )
    run(app, request, verbose=verbose, as_json=as_json)


def run(app: App, request: ReleaseRequest, *, verbose: bool, as_json: bool) -> None:
    """Release or recover, and show the outcome."""
    from manactl.act import release as releasing  # noqa: PLC0415 - not for --help
    from manactl.act.signals import SignalGate  # noqa: PLC0415
    from manactl.render import outcome, outcome_document, plan  # noqa: PLC0415

    verb, dry_run = request.verb, request.dry_run
    progress = app.progress(as_json=as_json, verbose=verbose)
    with SignalGate(app.warn, lasting=True) as signals:
        try:
            result = releasing.release(request, app.host, signals, progress)
        except ManactlError as error:
            _tell_beside(app, error, request, as_json=as_json)
            raise
        if not as_json:
            app.wrapped(*(line for made in result.plans for line in plan.lines(made)))
            app.wrapped(*outcome.release_lines(result, verb=verb, dry_run=dry_run))
        elif dry_run and len(result.plans) == 1:
            app.document(result.plans[0].to_json())
        else:
            planned = dry_run and not request.accept
            plans = {"plans": [made.to_json() for made in result.plans]} if planned else {}
            app.document({**outcome_document.release_document(result, verb), **plans})


def _tell_beside(app: App, error: ManactlError, request: ReleaseRequest, *, as_json: bool) -> None:
    """What has become of the other ports, when one failed: each has its own story."""
    from manactl.act.released import ReleaseResult  # noqa: PLC0415
    from manactl.render import outcome, outcome_document, plan  # noqa: PLC0415

    result = error.beside
    if not isinstance(result, ReleaseResult) or not (result.ports or result.plans):
        return
    if as_json:
        ports = outcome_document.release_document(result, request.verb)["ports"]
        error.more = {**error.more, "released": ports}
        return
    app.unfailing = True  # whoever does not read this is told why the exit code is not 0
    app.wrapped(*(line for made in result.plans for line in plan.lines(made)))
    if result.ports:
        app.wrapped(*outcome.release_lines(result, verb=request.verb, dry_run=False))

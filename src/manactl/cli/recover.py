"""`manactl recover`."""

from __future__ import annotations

import click

from manactl.cli.app import App
from manactl.cli.params import CLAIMED


@click.command(short_help="Undo an interrupted claim, finish an interrupted release.")
@click.option(
    "--accept",
    multiple=True,
    metavar="PORT",
    type=CLAIMED,
    help="Leave PORT as it is: show what is missing, and close its journal.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and stop.")
@click.option("-v", "--verbose", is_flag=True, help="Show the whole plan before it is carried out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def recover(app: App, accept: tuple[str, ...], dry_run: bool, verbose: bool, as_json: bool) -> None:
    """Undo every claim and finish every release that was interrupted, by their journals alone.

    Claims that stand are left alone. Journals from before the last boot are only closed: the
    boot configuration has taken over. With --accept nothing is restored, and no other port
    recovered.
    """
    from manactl.act.released import ReleaseRequest  # noqa: PLC0415 - not for --help
    from manactl.cli.release import run  # noqa: PLC0415

    request = ReleaseRequest(
        app.state_dir, accept, dry_run=dry_run, recover=True, accept=bool(accept)
    )
    run(app, request, verbose=verbose, as_json=as_json)

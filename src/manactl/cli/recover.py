"""`manactl recover`."""

from __future__ import annotations

import click

from manactl.cli.app import App


@click.command(short_help="Put back what an interrupted claim or release left.")
@click.option("--dry-run", is_flag=True, help="Show what would be put back, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def recover(app: App, dry_run: bool, as_json: bool) -> None:
    """Undo every claim and finish every release that was interrupted, by their journals alone.

    Claims that stand are left alone. Journals from before the last boot are only closed: the
    boot configuration has taken over.
    """
    from manactl.act import release  # noqa: PLC0415 - not for --help
    from manactl.act.signals import Interruptible  # noqa: PLC0415
    from manactl.cli.release import shower, tell  # noqa: PLC0415

    with Interruptible(app.warn, lasting=True) as signals:
        wish = release.Wish(
            app.state_dir, signals, dry_run=dry_run, recover=True, say=app.warn,
            show=shower(app, as_json=as_json),
        )  # fmt: skip
        tell(app, wish, release.release(wish, app.host), as_json=as_json)

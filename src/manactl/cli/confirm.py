"""`manactl confirm`."""

from __future__ import annotations

import click

from manactl.cli.app import App
from manactl.cli.params import UNCONFIRMED
from manactl.errors import ManactlError


@click.command(short_help="Keep a claim that would be released automatically.")
@click.argument("words", nargs=-1, metavar="[PORT]...", type=UNCONFIRMED)
@click.pass_obj
def confirm(app: App, words: tuple[str, ...]) -> None:
    """Keep the claim of each PORT, made with --confirm-within: it is not released automatically.

    Without PORT: the only claim that waits to be confirmed.
    """
    from manactl.act import confirm as confirming  # noqa: PLC0415 - not for --help
    from manactl.act.signals import SignalGate  # noqa: PLC0415
    from manactl.render import confirm as telling  # noqa: PLC0415

    request = confirming.ConfirmRequest(app.state_dir, words)
    found: list[confirming.ConfirmedPort] = []
    with SignalGate(app.warn, lasting=True) as signals:
        try:
            confirming.confirm(request, app.host, signals, found)
        except ManactlError:
            if found:  # what is confirmed is told all the same
                app.wrapped(*telling.lines(found))
                app.flush()
            raise
        app.wrapped(*telling.lines(found))

"""`manactl history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import PORT, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manactl.journal.history import PastClaim


@click.command(short_help="Show which claims have ended: whose, when, and how.")
@click.argument("words", nargs=-1, metavar="[PORT]...", type=PORT)
@json_option
@click.pass_obj
def history(app: App, words: tuple[str, ...], as_json: bool) -> None:
    """Show the claims of each PORT that have ended (of all ports without PORT), the last first:
    who had the port, from when and for how long, how it ended, and which guards were waived.

    \b
    released   by release
    recovered  it was interrupted, and what it had done was undone
    unwound    it failed, and what it had done was undone
    accepted   with the port as it was left, by recover --accept
    reboot     the machine was started again

    PORT is also what the port was called when it was claimed. Claims that stand are status's.
    """
    from manactl.errors import Denied  # noqa: PLC0415 - not for --help
    from manactl.journal import history as past  # noqa: PLC0415
    from manactl.render import history as render  # noqa: PLC0415

    try:
        found = past.read(app.state_dir)
    except PermissionError:
        raise Denied(
            f"{app.state_dir} is not readable", hint="run it as root, for instance with sudo"
        ) from None
    claims = _of(app, words, found.claims) if words else found.claims
    if as_json:
        app.document(render.document(claims, found.unreadable))
        return
    app.out(*render.table(claims))
    app.wrapped(*render.left(claims))
    for error in found.unreadable:
        app.warn(f"not read: {error.path}: {error.why}")


def _of(app: App, words: Sequence[str], claims: Sequence[PastClaim]) -> list[PastClaim]:
    """The claims of the ports that these words name now, or named when they were claimed.

    UsageError for a word that names nothing, now or then.
    """
    from manactl.errors import UsageError  # noqa: PLC0415 - only where a port is named
    from manactl.report import resolve  # noqa: PLC0415

    report = app.host.look()
    wanted: list[PastClaim] = []
    for word in words:
        then = [claim for claim in claims if claim.is_called(word)]
        try:
            (port,) = resolve(report, [word])
        except UsageError:
            if not then:
                raise
        else:
            then += [claim for claim in claims if claim.port.key == port.id.key]
        wanted += then
    return [claim for claim in claims if claim in wanted]

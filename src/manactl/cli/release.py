"""`manactl release`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import CLAIMED
from manactl.errors import UsageError

if TYPE_CHECKING:
    from manactl.act.plan import Plan
    from manactl.act.release import Outcome, Released, Wish


@click.command(short_help="Put claimed ports back as they were.")
@click.argument("words", nargs=-1, metavar="[PORT]...", type=CLAIMED)
@click.option("--all", "everything", is_flag=True, help="Release every claimed port.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    metavar="SECONDS",
    help="Wait so long for holders to end, and for another manactl.",
)
@click.option("--terminate", is_flag=True, help="Send SIGTERM to the holders, and wait for them.")
@click.option("--dry-run", is_flag=True, help="Show what would be put back, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def release(  # noqa: PLR0917 - click passes by keyword
    app: App,
    words: tuple[str, ...],
    everything: bool,
    wait: float | None,
    terminate: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Set the netdev of each PORT up again and put back all that the claim wrote down.

    Without PORT: the only claim. Also recovers a claim or a release that was interrupted.
    """
    if everything and words:
        raise UsageError("--all and PORT exclude each other", hint="manactl release --all")
    from manactl.act import release as releasing  # noqa: PLC0415 - not for --help
    from manactl.act.signals import Interruptible  # noqa: PLC0415

    with Interruptible(app.warn, lasting=True) as signals:
        wish = releasing.Wish(
            app.state_dir, signals, words, everything, dry_run, wait,
            terminate=terminate, say=app.warn, show=shower(app, as_json=as_json),
        )  # fmt: skip
        tell(app, wish, releasing.release(wish, app.host), as_json=as_json)


def shower(app: App, *, as_json: bool) -> Callable[[Plan], None]:
    """What shows a plan to people before anything is done."""

    def show(plan: Plan) -> None:
        from manactl.act import planner  # noqa: PLC0415 - not for --help

        if not as_json:
            app.tell(*planner.text(plan, brief=True))
            app.flush()

    return show


def tell(app: App, wish: Wish, outcome: Outcome, *, as_json: bool) -> None:
    """What a release or a recovery has come to."""
    from manactl.act import planner  # noqa: PLC0415 - not for --help
    from manactl.act import release as releasing  # noqa: PLC0415

    if as_json and wish.dry_run and len(outcome.plans) == 1:
        app.document(outcome.plans[0].to_json())
    elif as_json:
        plans = {"plans": [plan.to_json() for plan in outcome.plans]} if wish.dry_run else {}
        app.document({**releasing.document(outcome, wish.verb), **plans})
    elif not (outcome.ports or outcome.plans):
        app.out("nothing to recover" if wish.recover else "nothing is claimed")
    elif wish.dry_run:
        for plan in outcome.plans:
            app.tell(*planner.text(plan))
        app.tell(*_story(outcome), "Nothing was touched (dry run).")
    else:
        app.tell(*_story(outcome))


def _story(outcome: Outcome) -> list[str]:
    lines = []
    for one in outcome.ports:
        lines.append(_line(one))
        lines += [f"  its lifetime has ended meanwhile: {text}" for text in one.expired]
        lines += [f"  here now, and not before the claim (left alone): {t}" for t in one.extra]
    return lines


def _line(one: Released) -> str:
    if one.outcome == "not-claimed":
        return f"{one.netdev} is not claimed: nothing to do"
    if one.outcome == "history":
        return (
            f"{one.netdev}: claimed before the last boot; the boot configuration has taken over, "
            "the journal is closed and nothing was changed"
        )
    how = "recovered" if one.recovered else "released"
    if one.outcome == "left-down":
        return f"{one.netdev} {how}: it was down before the claim and stays as it is"
    from manactl.netstate.snapshot import counted  # noqa: PLC0415

    kinds = [counted(count, kind) for kind, count in one.counts.items()]
    back = ", ".join(kinds) + " put back" if kinds else "nothing was missing"
    carrier = ", no carrier yet" if one.carrier is False else ""
    gap = "" if one.down_for_s is None else f" (was down for {one.down_for_s} s)"
    return f"{one.netdev} {how}: up{carrier}{gap}, {back}; everything compared with what was before"

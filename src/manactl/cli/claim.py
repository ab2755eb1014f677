"""`manactl claim`."""

from __future__ import annotations

import click

from manactl.cli.app import App
from manactl.cli.params import CLAIMABLE, GUARD_CODE
from manactl.errors import UsageError
from manactl.escape import command
from manactl.model.port import DOWN, KEEP, UIO


@click.command(
    short_help="Hand ports to userspace RDMA.", context_settings={"allow_extra_args": True}
)
@click.option(
    "--raw-qp",
    "words",
    multiple=True,
    type=CLAIMABLE,
    metavar="PORT",
    help="A port to hand over.",
)
@click.option(
    "--allow",
    multiple=True,
    type=GUARD_CODE,
    metavar="CODE",
    help="Accept what this guard refuses.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan, or the refusals, and stop.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    metavar="SECONDS",
    help="Wait so long for a vport that is taken, and for another manactl.",
)
@click.option(
    "--synthetic",
    type=click.Choice([DOWN, KEEP, UIO]),
    help="Set the netvsc interface of a pair down, keep it, or give it to uio. [default: down]",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the whole plan before it is executed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def claim(  # noqa: PLR0917 - click passes by keyword
    ctx: click.Context,
    words: tuple[str, ...],
    allow: tuple[str, ...],
    dry_run: bool,
    wait: float | None,
    synthetic: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Set the netdev of each PORT down, so that raw QPs (DPDK) can have its vport.

    What the kernel then drops is first saved to a journal; `manactl release` restores it. All of
    the ports are claimed, or none.
    """
    if ctx.args or not words:
        ports = [part for word in [*words, *ctx.args] or ["PORT"] for part in ("--raw-qp", word)]
        what = "the ports to claim are given by --raw-qp"
        raise UsageError(what, hint=command("manactl", "claim", *ports))
    _check_codes(allow)
    from manactl.act import claim as claiming  # noqa: PLC0415 - not for --help
    from manactl.act.signals import SignalGate  # noqa: PLC0415
    from manactl.render import outcome, outcome_document, plan  # noqa: PLC0415

    app: App = ctx.obj
    request = claiming.ClaimRequest(app.state_dir, words, allow, dry_run, wait, synthetic)
    progress = app.progress(as_json=as_json, verbose=verbose)
    with SignalGate(app.warn, lasting=True) as signals:
        with claiming.prepare(request, app.host, signals) as prepared:
            if prepared.plan is not None and dry_run and not as_json:
                app.wrapped(*plan.lines(prepared.plan))
            result = claiming.execute(prepared, progress)
        if not as_json:
            app.wrapped(*outcome.claim_lines(result, dry_run=dry_run))
        elif dry_run and result.plan is not None:
            app.document(result.plan.to_json())
        else:
            app.document(outcome_document.claim_document(result))


def _check_codes(allow: tuple[str, ...]) -> None:
    from manactl.decide.codes import NEVER, WAIVABLE  # noqa: PLC0415 - not for --help

    if never := sorted(set(allow) & set(NEVER)):
        raise UsageError(f"--allow: {', '.join(never)} can never be waived")
    if unknown := sorted(set(allow) - set(WAIVABLE)):
        known = ", ".join(WAIVABLE)
        raise UsageError(f"--allow: no such code: {', '.join(unknown)}", hint=f"codes: {known}")

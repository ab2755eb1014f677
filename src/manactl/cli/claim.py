"""`manactl claim`."""

from __future__ import annotations

import contextlib

import click

from manactl.cli.app import App
from manactl.cli.exec_claim import WithCommand, command_of
from manactl.cli.params import CLAIMABLE, GUARD_CODE
from manactl.errors import UsageError
from manactl.escape import command
from manactl.model.port import DOWN, KEEP, UIO


@click.command(
    cls=WithCommand,
    short_help="Hand ports to userspace RDMA.",
    context_settings={"allow_extra_args": True},
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
    "--confirm-within",
    type=click.FloatRange(1, 86400),
    metavar="SECONDS",
    help="Release it automatically then, unless `manactl confirm` comes before.",
)
@click.option(
    "--synthetic",
    type=click.Choice([DOWN, KEEP, UIO]),
    help="Set the netvsc interface of a pair down, keep it, or give it to uio. [default: down]",
)
@click.option(
    "--persist",
    is_flag=True,
    help="Have the network manager leave the ports down at boot, too, until release.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write what happened to FILE, as JSON; only with a COMMAND.",
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
    confirm_within: float | None,
    synthetic: str | None,
    persist: bool,
    report: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Set the netdev of each PORT down, so that raw QPs (DPDK) can have its vport.

    What the kernel then drops is first saved to a journal; `manactl release` restores it. All of
    the ports are claimed, or none.

    With a COMMAND the claim is for that command: it is released when the command has ended, and
    all that it left behind and that uses the port. With --confirm-within it is released
    automatically unless it is confirmed, also when the session that it was made in is gone.
    """
    argv = command_of(ctx)
    if ctx.args or not words:
        ports = [part for word in [*words, *ctx.args] or ["PORT"] for part in ("--raw-qp", word)]
        what = "the ports to claim are given by --raw-qp"
        line = ["manactl", "claim", *ports, *(["--", *argv] if argv else [])]
        raise UsageError(what, hint=command(*line))
    _check_codes(allow)
    app: App = ctx.obj
    app.exec_mode = bool(argv) and not dry_run
    _check_outputs(argv, report, as_json=as_json, dry_run=dry_run)
    if argv and confirm_within is not None:
        raise UsageError(
            "--confirm-within and a COMMAND exclude each other: such a claim ends with its command",
            hint="to limit its time: " + command("--", "timeout", f"{confirm_within:g}", *argv),
        )
    if argv and persist:
        raise UsageError(
            "--persist and a COMMAND exclude each other: such a claim ends with its command",
            hint="leave one of them out",
        )
    from manactl.act import claim as claiming  # noqa: PLC0415 - not for --help
    from manactl.act.signals import SignalGate  # noqa: PLC0415
    from manactl.render import outcome, outcome_document, plan  # noqa: PLC0415

    request = claiming.ClaimRequest(
        app.state_dir,
        words,
        allow=allow,
        dry_run=dry_run,
        wait=wait,
        synthetic=synthetic,
        command=argv,
        confirm_within=confirm_within,
        persist=persist,
    )
    if app.exec_mode:
        from manactl.cli import exec_claim  # noqa: PLC0415

        ctx.exit(exec_claim.run(app, request, report, verbose=verbose))
    progress = app.progress(as_json=as_json, verbose=verbose)
    with contextlib.ExitStack() as stack:
        guard = None
        if confirm_within is not None and not dry_run:
            from manactl.act import guardian  # noqa: PLC0415 - for few claims

            guard = stack.enter_context(guardian.start(app.state_dir, app.host))
        signals = stack.enter_context(SignalGate(app.warn, lasting=True))
        with claiming.prepare(request, app.host, signals) as prepared:
            if prepared.plan is not None and dry_run and not as_json:
                app.wrapped(*plan.lines(prepared.plan))
            result = claiming.execute(prepared, progress, guard)
        if not as_json:
            app.wrapped(*outcome.claim_lines(result, dry_run=dry_run))
        elif dry_run and result.plan is not None:
            app.document(result.plan.to_json())
        else:
            app.document(outcome_document.claim_document(result))


def _check_outputs(
    argv: tuple[str, ...], report: str | None, *, as_json: bool, dry_run: bool
) -> None:
    if report is not None and not argv:
        raise UsageError("--report is about a COMMAND, and there is none", hint="use --json")
    if argv and as_json and not dry_run:
        raise UsageError("--json: standard output is the command's", hint="use --report FILE")


def _check_codes(allow: tuple[str, ...]) -> None:
    from manactl.decide.codes import NEVER, WAIVABLE  # noqa: PLC0415 - not for --help

    if never := sorted(set(allow) & set(NEVER)):
        raise UsageError(f"--allow: {', '.join(never)} can never be waived")
    if unknown := sorted(set(allow) - set(WAIVABLE)):
        known = ", ".join(WAIVABLE)
        raise UsageError(f"--allow: no such code: {', '.join(unknown)}", hint=f"codes: {known}")

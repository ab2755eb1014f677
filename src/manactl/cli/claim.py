"""`manactl claim`."""

from __future__ import annotations

import click

from manactl.cli.app import App
from manactl.cli.params import CLAIMABLE, GUARD_CODE
from manactl.errors import UsageError


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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def claim(  # noqa: PLR0917 - click passes by keyword
    ctx: click.Context,
    words: tuple[str, ...],
    allow: tuple[str, ...],
    dry_run: bool,
    wait: float | None,
    as_json: bool,
) -> None:
    """Set the netdev of each PORT down, so that raw QPs (DPDK) can have its vport.

    Everything that the kernel drops by that is written down first; `manactl release` puts it
    back. All of the ports are claimed, or none.
    """
    if ctx.args or not words:
        ports = " ".join(f"--raw-qp {word}" for word in [*words, *ctx.args] or ["PORT"])
        what = "the ports to claim are given by --raw-qp"
        raise UsageError(what, hint=f"manactl claim {ports}")
    from manactl.act import claim as claiming  # noqa: PLC0415 - not for --help
    from manactl.act import planner  # noqa: PLC0415
    from manactl.act.plan import Plan  # noqa: PLC0415
    from manactl.act.signals import Interruptible  # noqa: PLC0415
    from manactl.decide import codes  # noqa: PLC0415 - not for --help

    if never := sorted(set(allow) & set(codes.NEVER)):
        raise UsageError(f"--allow: {', '.join(never)} can never be waived")
    unknown = sorted(set(allow) - set(codes.WAIVABLE))
    if unknown:
        known = ", ".join(codes.WAIVABLE)
        raise UsageError(f"--allow: no such code: {', '.join(unknown)}", hint=f"codes: {known}")
    app: App = ctx.obj

    def show(plan: Plan) -> None:
        if not as_json:
            app.tell(*planner.text(plan, brief=not dry_run))
            app.flush()  # before anything is done

    with Interruptible(app.warn, lasting=True) as signals:
        wish = claiming.Wish(app.state_dir, words, show, signals, allow, dry_run, wait)
        done = claiming.claim(wish, app.host)
        if as_json:
            plan = done.plan
            app.document(plan.to_json() if dry_run and plan else claiming.document(done))
        else:
            app.tell(*_story(done, dry_run=dry_run))


def _story(done: object, *, dry_run: bool) -> list[str]:
    from manactl.act import claim as claiming  # noqa: PLC0415

    assert isinstance(done, claiming.Claimed)
    lines = [
        f"{port.label} is claimed already, since {summary.claim.since:%Y-%m-%d %H:%M:%S} UTC"
        for port, summary in done.already
    ]
    if dry_run:
        return [*lines, "Nothing was touched (dry run)."]
    for port in done.ports:
        rdma = port.rdma
        assert rdma is not None
        where = f"{rdma.device} port {rdma.port}"
        if claiming.proven(done, port.id):
            lines.append(
                f"{port.label} is claimed: its vport is free for raw QPs on {where}, proven."
            )
        else:
            lines.append(
                f"{port.label} is claimed, but not proven: without CAP_NET_RAW no QP could be made "
                f"on {where} to see that its vport is free."
            )
    names = " ".join(port.label for port in (*done.ports, *(p for p, _ in done.already)))
    return [*lines, f"When done: manactl release {names}"]

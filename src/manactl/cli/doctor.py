"""`manactl doctor`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import PORT, json_option
from manactl.errors import Denied, Unsupported, UsageError
from manactl.escape import command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manactl.doctor.finding import Finding
    from manactl.doctor.kernel_facts import Row
    from manactl.model.claim import ClaimSummary
    from manactl.model.port import Report

UNFIT = 3
# A driver that waits for its device is busy only if it waits still in each of two more looks.
_LOOKS, _APART = 2, 0.5  # s
_MARKS = {"mend": "FIX", "advice": "note", "unseen": "?", "fine": "ok"}


@click.command(short_help="Is this machine fit to hand a port to RDMA?")
@click.argument("words", nargs=-1, type=PORT, metavar="[PORT]...")
@click.option(
    "--facts",
    is_flag=True,
    help="Show what this kernel does beside what the lab's kernels do; with PORT also by making a "
    "raw QP on it and destroying it at once.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, words: tuple[str, ...], facts: bool, as_json: bool) -> None:
    """Check everything that a hand-over of a port needs, and show what must be fixed and how.

    Exit code 0: fit; 3: something must be fixed first; 8: no MANA function here.
    """
    if words and not facts:
        raise UsageError(
            "PORT goes with --facts", hint=command("manactl", "doctor", "--facts", names=words[:1])
        )
    app: App = ctx.obj
    from dataclasses import replace  # noqa: PLC0415 - not for --help

    from manactl.doctor import fitness, kernel_facts  # noqa: PLC0415
    from manactl.doctor import probe as source  # noqa: PLC0415
    from manactl.doctor import read_machine as reading  # noqa: PLC0415
    from manactl.journal.file import stamp  # noqa: PLC0415
    from manactl.report import look, resolve  # noqa: PLC0415

    claims = _claims(app)
    report = look(claims=claims)
    machine = reading.read(report, reading.rdma_netns(), reading.Places(state=app.state))
    for _ in range(_LOOKS):
        if not machine.waiting:
            break
        time.sleep(_APART)
        still = reading.waiting(look(claims=claims))
        machine = replace(machine, waiting=tuple(w for w in machine.waiting if w in still))
    if not machine.functions:
        raise Unsupported("no MANA function here: there is nothing to hand over")
    found = fitness.findings(machine)
    table = []
    if facts:
        seen = source.passive(machine)
        for port in resolve(report, words):
            if os.geteuid() != 0:
                raise Denied("making a raw QP needs CAP_NET_RAW", hint="run it as root")
            seen |= source.probed(port)
        table = kernel_facts.rows(seen)
    fit = fitness.fit(found)
    if as_json:
        document: dict[str, object] = {
            "schema": "manactl.doctor/1",
            "time": stamp(),
            "kernel": report.kernel,
            "fit": fit,
            "findings": [finding.to_json() for finding in found],
        }
        if facts:
            document["facts"] = [row.to_json() for row in table]
        app.document(document)
    elif facts:
        app.out(*_facts(report, table))
    else:
        app.out(*_text(found, fit=fit))
    ctx.exit(0 if fit or facts else UNFIT)


def _claims(app: App) -> list[ClaimSummary]:
    from manactl.errors import ManactlError  # noqa: PLC0415
    from manactl.journal.file import list_claims  # noqa: PLC0415

    try:
        return list_claims(app.state_dir).claims
    except (OSError, ManactlError):
        return []  # a finding of its own


def _text(found: Sequence[Finding], *, fit: bool) -> Iterator[str]:
    from manactl.render.wrap import columns, hanging  # noqa: PLC0415

    width = columns()
    for finding in found:
        yield from hanging(f"{_MARKS[finding.level]:<5}", finding.what, width)
        if finding.why:
            yield from hanging(" " * 7, finding.why, width)
        for line in finding.fix:
            yield f"         $ {line}"
    if fit:
        yield "This machine is fit to hand a port to RDMA."
    else:
        count = sum(finding.level == "mend" for finding in found)
        what = "one thing has" if count == 1 else f"{count} things have"
        yield f"Not fit yet: {what} to be fixed."


def _facts(report: Report, table: Sequence[Row]) -> Iterator[str]:
    from manactl.doctor import kernel_facts  # noqa: PLC0415

    yield f"Linux {report.kernel}, manactl {_own_version()}: {kernel_facts.verdict(table)}"
    heads: tuple[str, ...] = ("FACT", "HERE", *kernel_facts.KERNELS)
    cells = [heads]
    cells += [
        (
            row.fact.code,
            row.here or "not seen",
            *(row.fact.lab or ("-",) * len(kernel_facts.KERNELS)),
        )
        for row in table
    ]
    widths = [max(len(line[n]) for line in cells) for n in range(len(heads))]
    for line in cells:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
    yield ""
    for row in table:
        yield f"{row.fact.code}: {row.fact.what}"


def _own_version() -> str:
    from manactl import __version__  # noqa: PLC0415

    return __version__

"""`manactl claim ... -- COMMAND`: standard output and input are the command's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from manactl.errors import EXEC_FAILED, NOT_FOUND, ManactlError, RolledBack, UsageError, strerror

if TYPE_CHECKING:
    from manactl.act.claim import ClaimRequest, ClaimResult
    from manactl.act.exec_mode import Ended
    from manactl.act.progress import Progress
    from manactl.act.signals import SignalGate
    from manactl.cli.app import App

_COMMAND = "manactl.command"


class WithCommand(click.Command):
    """A command whose line may end in `-- COMMAND ARG...`, which is not click's to parse."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = tuple(args[at + 1 :])
            ctx.obj.exec_mode = True  # its own usage errors included, as timeout(1) has it
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND [ARG]...]"]


def command_of(ctx: click.Context) -> tuple[str, ...]:
    """What follows `--`; UsageError when that is nothing."""
    words: tuple[str, ...] | None = ctx.meta.get(_COMMAND)
    if words == ():
        raise UsageError("no command after --", hint="manactl claim --raw-qp PORT -- COMMAND")
    return words or ()


class Story:
    """What happened, for `--report FILE`; every key from the start, null until it is known."""

    def __init__(self, command: Sequence[str], path: str | None) -> None:
        if path is not None:  # now: when it is over there may be no descriptor to load it with
            from manactl.journal import file  # noqa: F401, PLC0415
            from manactl.render import atomic_file, document  # noqa: F401, PLC0415
        self._path = path
        self.document: dict[str, Any] = {
            "schema": "manactl.exec/1",
            "time": None,
            "command": list(command),
            "exit": None,
            "status": None,
            "signal": None,
            "claim": None,
            "release": None,
            "error": None,
        }

    def failed(self, error: ManactlError) -> None:
        if self._path is None:
            return
        from manactl.render.document import error_document  # noqa: PLC0415

        found = error_document(error.code, error.message, error.hint, error.evidence)
        self.document["error"] = {**found, "exit": error.exit_code}

    def check(self) -> None:
        """Raise when it is known already that the file will not be written: nothing is done yet."""
        if self._path is None:
            return
        from pathlib import Path  # noqa: PLC0415

        from manactl.render import atomic_file  # noqa: PLC0415

        atomic_file.check(Path(self._path))

    def write(self, code: int) -> None:
        """Write it where it is wanted. A file that cannot be written fails nothing that was done,
        and is told by the caller: ManactlError."""
        if self._path is None:
            return
        from pathlib import Path  # noqa: PLC0415

        from manactl.journal.file import stamp  # noqa: PLC0415
        from manactl.render import atomic_file  # noqa: PLC0415
        from manactl.render.document import dumps  # noqa: PLC0415

        self.document |= {"time": stamp(), "exit": code}
        atomic_file.write(Path(self._path), dumps(self.document) + "\n", 0o666 & ~_umask())


def _umask() -> int:
    """The words of the command are in the report: who hides files hides it, too."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def run(app: App, request: ClaimRequest, report: str | None, *, verbose: bool) -> int:
    """Claim, run, release; the exit code. A failure of ours is raised."""
    story = Story(request.command, report)
    story.check()
    code = EXEC_FAILED
    try:
        code = _run(app, request, story, verbose=verbose)
    except ManactlError as error:
        story.failed(error)
        raise
    finally:
        try:
            story.write(code)
        except ManactlError as error:
            app.warn(f"{error.message}; the report is not written")
        except OSError as error:  # no descriptor: the code is the command's all the same
            app.warn(f"{report}: {strerror(error)}; the report is not written")
    return code


def _run(app: App, request: ClaimRequest, story: Story, *, verbose: bool) -> int:
    from manactl.act import claim as claiming  # noqa: PLC0415 - not for --help
    from manactl.act import exec_mode, guardian  # noqa: PLC0415
    from manactl.act.released import ReleaseRequest, ReleaseResult  # noqa: PLC0415
    from manactl.act.signals import SignalGate  # noqa: PLC0415
    from manactl.render import outcome, outcome_document  # noqa: PLC0415

    if code := exec_mode.found(request.command[0], os.environ.get("PATH", os.defpath)):
        what = "no such command" if code == NOT_FOUND else "cannot be executed"
        app.warn(f"{request.command[0]}: {what}; nothing was touched")
        return code
    progress = _progress(app, verbose=verbose)
    # One gate from before the claim to the end: no signal finds the port claimed and nobody to say
    # so, between the claim and the command or the command and the release.
    with (
        guardian.start(app.state_dir, app.host) as guard,
        SignalGate(app.warn, lasting=True) as whole,
    ):
        with claiming.prepare(request, app.host, whole) as prepared:
            result = claiming.execute(prepared, progress, guard)
        whole.settled()
        assert result.journal is not None
        story.document["claim"] = outcome_document.claim_document(result)
        app.err(*outcome.claim_lines(result, dry_run=False, command_follows=True))
        ended, lost = _followed(request, result, guard.watch, whole)
        story.document |= {"status": ended.status, "signal": ended.signal}
        ports = [port.id for port in result.ports]
        with SignalGate(app.warn, lasting=True) as signals:
            own = ReleaseRequest(app.state_dir, only=result.journal, quiet=True)
            try:
                released = exec_mode.release(own, ports, app.host, signals, progress)
            except ManactlError as error:
                if isinstance(error.beside, ReleaseResult) and error.beside.ports:
                    back = outcome_document.release_document(error.beside, "release")
                    story.document["release"] = back
                    app.err(*outcome.release_lines(error.beside, verb="release", dry_run=False))
                raise
            story.document["release"] = outcome_document.release_document(released, "release")
            app.err(*outcome.own_release_lines(released, result.ports))
    if lost is not None:
        raise lost
    if ended.failed is not None:
        app.warn(f"{request.command[0]}: {ended.failed}")
    return ended.code


def _followed(
    request: ClaimRequest, result: ClaimResult, started: Callable[[int], None], signals: SignalGate
) -> tuple[Ended, RolledBack | None]:
    """How the command ended; with the failure when it was not started: no process could be had, or
    the guardian was lost. One of `signals` that came too late to stop the claim ends it before."""
    from manactl.act import exec_mode  # noqa: PLC0415

    env = exec_mode.environment(result, os.environ)
    try:
        return exec_mode.run(request.command, env, started, lambda: signals.late), None
    except RolledBack as lost:
        return exec_mode.Ended(EXEC_FAILED), lost


def _progress(app: App, *, verbose: bool) -> Progress:
    if not verbose:
        return app.progress(as_json=True, verbose=False)
    from manactl.render import progress  # noqa: PLC0415

    return progress.follow(sys.stderr, sys.stderr, verbose=True)

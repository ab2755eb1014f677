"""The `manactl` command: its group, and how every outcome becomes an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, TextIO

import click

from manactl import __version__
from manactl.cli.app import STATE_DIR, App
from manactl.errors import EXEC_FAILED, Interrupted, ManactlError, UsageError, lacking

EXIT_BUG = 1
_COMPLETE = "_MANACTL_COMPLETE"
_UNTOLD = "`manactl status` shows what is claimed, and whether something was interrupted"
LOG_ERR, LOG_USER = 3, 1  # RFC 5424
EXIT_PIPE = 128 + 13  # what a shell reports of a program that SIGPIPE ended


def _status() -> click.Command:
    from manactl.cli.status import status  # noqa: PLC0415

    return status


def _claim() -> click.Command:
    from manactl.cli.claim import claim  # noqa: PLC0415

    return claim


def _confirm() -> click.Command:
    from manactl.cli.confirm import confirm  # noqa: PLC0415

    return confirm


def _doctor() -> click.Command:
    from manactl.cli.doctor import doctor  # noqa: PLC0415

    return doctor


def _release() -> click.Command:
    from manactl.cli.release import release  # noqa: PLC0415

    return release


def _recover() -> click.Command:
    from manactl.cli.recover import recover  # noqa: PLC0415

    return recover


def _hold() -> click.Command:
    from manactl.cli.hold import hold  # noqa: PLC0415

    return hold


def _history() -> click.Command:
    from manactl.cli.history import history  # noqa: PLC0415

    return history


def _explain() -> click.Command:
    from manactl.cli.explain import explain  # noqa: PLC0415

    return explain


COMMANDS: dict[str, Callable[[], click.Command]] = {
    "claim": _claim,
    "confirm": _confirm,
    "explain": _explain,
    "doctor": _doctor,
    "history": _history,
    "hold": _hold,
    "recover": _recover,
    "release": _release,
    "status": _status,
}


# Their exit code reports what was done to the ports, also when the output cannot be written.
DEEDS = ("claim", "confirm", "hold", "recover", "release")


class Bug(ManactlError):
    """An unexpected exception."""

    exit_code = EXIT_BUG
    kind = "bug"


class Commands(click.Group):
    """A group that imports a command when it is asked for: `--version` and a completion need few."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in COMMANDS:
            found = COMMANDS[cmd_name]()
            self.add_command(found, cmd_name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:  # of an option click says it itself
            if not (meant := _meant(args[0], self.list_commands(ctx))):
                raise
            raise click.UsageError(f"{error.message}{meant}", error.ctx) from None


def _meant(word: str, commands: Sequence[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for a wrong word alone

    near = [] if word.startswith("-") else get_close_matches(word, commands, n=1)
    return "".join(f" Did you mean {one!r}?" for one in near)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    epilog="Exit codes: 0 done, 2 usage, 3 refused, 4 failed and restored, 5 not restored, "
    "6 busy, 7 privilege missing, 8 not supported here, 130 interrupted.",
)
@click.version_option(__version__, prog_name="manactl", message="%(prog)s %(version)s")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, readable=False),
    default=STATE_DIR,
    hidden=True,
)
@click.option("--debug", is_flag=True, help="Show the traceback of a bug.")
@click.pass_context
def cli(ctx: click.Context, state_dir: str, debug: bool) -> None:
    """Show who owns a MANA port, hand it to RDMA, and get it back whole."""
    app = ctx.ensure_object(App)
    app.state, app.debug = state_dir, debug
    app.unfailing = ctx.invoked_subcommand in DEEDS


def _command_names(ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    return [name for name in cli.list_commands(ctx) if name.startswith(start)]


@cli.command("help", short_help="Open the manual of a command.")
@click.argument("command", required=False, shell_complete=_command_names)
@click.pass_context
def help_command(ctx: click.Context, command: str | None) -> None:
    """Open the manual page of COMMAND, or of manactl itself.

    Without a terminal, or where there is no man(1) or no page: print the help of its options.
    """
    from manactl.cli import manual  # noqa: PLC0415 - not for --help

    root = ctx.find_root()
    found = None if command is None else cli.get_command(root, command)
    if command is not None and found is None:
        meant = _meant(command, cli.list_commands(root))
        raise click.UsageError(f"No such command {command!r}.{meant}", root)
    manual.show(command)
    if found is None:
        click.echo(root.get_help())
        return
    with click.Context(found, info_name=command, parent=root) as asked:
        click.echo(found.get_help(asked))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code. Standard output is flushed or dead then."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _remember_errors()
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    app = App()
    code: int | None = None
    try:
        code = _run(app, arguments)
        sys.stdout.flush()
    except OSError as error:  # of standard output; _run() lets no other pass
        app.lose_output(error)
        if code is None or not (code or app.unfailing):
            code = EXIT_PIPE if isinstance(error, BrokenPipeError) else EXIT_BUG
    except KeyboardInterrupt:  # in the middle of a message
        return EXEC_FAILED if app.exec_mode else Interrupted.exit_code
    finally:
        if signals := sys.modules.get("manactl.act.signals"):
            signals.restore()
    return code


def _run(app: App, arguments: list[str]) -> int:
    # After `--` come the words of another program.
    before = list(takewhile(lambda word: word != "--", arguments))
    as_json = "--json" in before
    try:
        if as_json:  # before anything is done: later there may be no descriptor to load it with
            from manactl.render import document  # noqa: F401, PLC0415
        if os.environ.get(_COMPLETE):
            from manactl.cli import complete  # noqa: PLC0415 - only a shell asks

            if complete.is_asked(os.environ, _COMPLETE, arguments):
                if arguments:
                    app.warn(f"{_COMPLETE} is set: these words are completed, and nothing is done")
                complete.speak_lines()
                cli.main(arguments, prog_name="manactl", complete_var=_COMPLETE)
        with cli.make_context("manactl", arguments, obj=app) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _fail(app, Interrupted(f"interrupted; {app.changed}"), as_json)
    except click.ClickException as error:
        return _fail(app, _usage(error), as_json)
    except ManactlError as error:
        return _fail(app, error, as_json)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not app.unfailing:
            raise  # --watch also raises it, when it sees the reader go
        if _is_of_output(error):
            app.unfailing = False  # of a deed's report App loses it: this was a deed's --help
            raise
        return _bug(app, error, as_json, "--debug" in before)
    return 0


def _is_of_output(error: Exception) -> bool:
    """Whether it is an error of writing to standard output."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Output) and error is raw.error


def _usage(error: click.ClickException) -> UsageError:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    where = ctx.command_path if ctx else "manactl"
    return UsageError(error.format_message(), hint=f"see '{where} --help'")


def _fail(app: App, error: ManactlError, as_json: bool) -> int:
    document: Mapping[str, object] | None = None
    if as_json:
        with contextlib.suppress(OSError, ImportError):  # _run() could not load it either
            from manactl.render.document import error_document  # noqa: PLC0415 - only for --json

            found = error_document(error.code, error.message, error.hint, error.evidence)
            document = {**found, **error.more}
    _report(app, error.message, error.hint, document)
    return EXEC_FAILED if app.exec_mode else error.exit_code


def _bug(app: App, error: Exception, as_json: bool, debug: bool) -> int:
    cause = _loading(error) if isinstance(error, ImportError) else error
    if isinstance(cause, MemoryError | OSError) and (lack := lacking(cause, _UNTOLD)):
        return _fail(app, lack, as_json)
    from traceback import format_exception  # noqa: PLC0415 - only a bug pays for it

    lines = "".join(format_exception(error)).splitlines()
    if debug:
        app.err(*lines, wrap=False)
        hint = None
    else:
        from manactl.act.audit import to_syslog  # noqa: PLC0415 - only a bug pays for it

        to_syslog(lines, LOG_ERR, LOG_USER)
        hint = "the traceback is in the system log; --debug shows it here"
    return _fail(app, Bug(f"bug: {type(error).__name__}: {error}", hint=hint), as_json)


def _loading(error: ImportError) -> Exception:
    """Why a library could not be loaded: the loader tells of a lack of descriptors in words."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as lack:
        return lack
    return error


def _report(
    app: App, message: str, hint: str | None, document: Mapping[str, object] | None
) -> None:
    """Print why the exit code is not 0. A failure to print does not change that code."""
    app.unfailing = True
    if document is not None:  # first: a program waits for it, and standard error may be stuck
        app.document(document)
        app.flush()
    first, *rest = message.split("\n")
    app.err(f"manactl: {first}", *rest)
    if hint:
        app.err(*(f"  {line}" for line in hint.split("\n")))


class _Output(io.FileIO):
    """Standard output below its buffer; `error` is the last that the kernel gave."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            written = super().write(data)
            if written is None:  # it does not block, and has no room
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return written
        except OSError as error:
            self.error = error
            raise


def _remember_errors() -> None:
    """Have `error is raw.error` tell whether an error is standard output's. That a flush() fails
    again would not: what has no room in the buffer is written, fails, and is dropped.

    With a buffer also where Python uses none (PYTHONUNBUFFERED): what has to be seen at once is
    flushed, and a write that took only a part would lose the rest.
    """
    out = sys.stdout
    buffer = getattr(out, "buffer", None)
    if isinstance(getattr(buffer, "raw", buffer), io.FileIO):
        out.flush()
        raw = _Output(out.fileno(), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=out.encoding, line_buffering=out.isatty()
        )


def _never_fail_to_encode(stream: TextIO) -> None:
    """A locale without UTF-8 must not turn a name into an exception."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")

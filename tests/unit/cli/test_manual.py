"""`manactl help` opens the manual on a terminal, with the real man(1), and falls back in words."""

from __future__ import annotations

import os
import pty
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from manactl.cli import manual
from tests.conftest import lacking
from tests.unit.cli.test_main import EXPENSIVE, SRC, run

CHECKOUT = Path(SRC).parent


def on_terminal(
    *words: str, src: str = SRC, path: str | None = None, **env: str
) -> tuple[int, str]:
    """Exit status and screen of a manactl on a pseudo terminal; no pager waits for keys there."""
    pid, terminal = pty.fork()
    if pid == 0:
        variables: Mapping[str, str] = {
            "PATH": os.environ["PATH"] if path is None else path,
            "PYTHONPATH": src,
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "MANWIDTH": "80",
            **env,
        }
        os.execve(sys.executable, [sys.executable, "-m", "manactl", *words], variables)
    shown = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: everybody on it has gone
            break
        if not data:
            break
        shown += data
    os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", shown.decode())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory for everybody: as root, whom the page is shown by is somebody else."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


@pytest.fixture
def man() -> None:
    if shutil.which("man") is None:
        lacking("lab", "there is no man (Debian: man-db)")


@pytest.mark.usefixtures("man")
@pytest.mark.parametrize(
    ("words", "title"),
    [
        ((), "MANACTL(8)"),
        (("status",), "MANACTL-STATUS(8)"),
        (("claim",), "MANACTL-CLAIM(8)"),
    ],
)
def test_help_opens_the_page(words: tuple[str, ...], title: str) -> None:
    code, shown = on_terminal("help", *words, MANPAGER="cat")
    assert (code, title in shown.splitlines()[0]) == (0, True), shown
    assert "EXIT STATUS" in shown


@pytest.mark.usefixtures("man")
@pytest.mark.parametrize("name", ["MANPAGER", "PAGER"])
def test_the_pager_is_the_users(name: str, public: Path) -> None:
    read = public / "read"
    code, shown = on_terminal("help", "release", **{name: f"tee {read}"})
    assert code == 0
    assert "MANACTL-RELEASE(8)" in re.sub(".\b", "", read.read_text())
    assert "MANACTL-RELEASE(8)" in shown


NOBODY = "65534 65534"


@pytest.mark.parametrize(
    ("sudo_uid", "who"),
    [
        ("1", "1 1"),
        ("0", NOBODY),
        (None, NOBODY),
        ("-1", NOBODY),
        ("4000000000", None),
        ("x", None),
    ],
)
def test_no_pager_runs_as_root(public: Path, sudo_uid: str | None, who: str | None) -> None:
    """`!sh` in it is a shell of whoever called sudo, or of nobody."""
    if os.geteuid() != 0:
        lacking("netns", "nobody else could be root by it")
    state = "grep -E '^(Uid|Gid|Groups|Cap...):' /proc/self/status"
    (public / "man").write_text(f"#!/bin/sh\n{state}\n")
    (public / "man").chmod(0o755)
    path = f"{public}:{os.environ['PATH']}"
    sudo = {} if sudo_uid is None else {"SUDO_UID": sudo_uid, "SUDO_GID": "0"}
    code, shown = on_terminal("help", "claim", path=path, **sudo)
    if who is None:
        assert (code, shown.split()[:3]) == (0, ["Usage:", "manactl", "claim"])
        return
    found = dict(line.split(":", 1) for line in shown.splitlines())
    uid, gid = who.split()
    assert (found["Uid"].split(), found["Gid"].split()) == ([uid] * 4, [gid] * 4)
    assert found["Groups"].split() == []
    assert {name: int(found[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {
        "CapPrm": 0, "CapEff": 0, "CapAmb": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("mode", "shown"), [(0o644, "the page"), (0o600, "Usage: manactl")])
def test_a_page_that_only_root_may_read_gives_way_to_the_options(
    public: Path, mode: int, shown: str
) -> None:
    if os.geteuid() != 0:
        lacking("netns", "only root can have a page that others may not read")
    for name in ("bin", "man", "src"):
        (public / name).mkdir()
    (public / "bin/man").write_text("#!/bin/sh\nexec /bin/cat $2 2>/dev/null\n")
    (public / "bin/man").chmod(0o755)
    (public / "man/manactl-claim.8").write_text("the page")
    (public / "man/manactl-claim.8").chmod(mode)
    (public / "src/manactl").mkdir()
    shutil.copytree(f"{SRC}/manactl", public / "src/manactl", dirs_exist_ok=True)
    code, text = on_terminal("help", "claim", src=str(public / "src"), path=str(public / "bin"))
    assert (code, text[: len(shown)]) == (0, shown)


def test_without_man_the_options_are_printed(tmp_path: Path) -> None:
    code, shown = on_terminal("help", "status", path=str(tmp_path))
    assert (code, shown.split()[:3]) == (0, ["Usage:", "manactl", "status"])
    code, shown = on_terminal("help", path=str(tmp_path))
    assert (code, shown.split()[:2]) == (0, ["Usage:", "manactl"])


def test_a_man_that_does_not_start_is_none(tmp_path: Path) -> None:
    for name in ("man", "mman"):
        (tmp_path / name).write_text("#!/nowhere/to/be/found\n")
        (tmp_path / name).chmod(0o755)
    code, shown = on_terminal("help", "claim", path=str(tmp_path))
    assert (code, shown.split()[:3]) == (0, ["Usage:", "manactl", "claim"])


def test_the_second_name_of_man_will_do(public: Path) -> None:
    (public / "mman").write_text('#!/bin/sh\necho "$@"\n')
    (public / "mman").chmod(0o755)
    code, shown = on_terminal("help", "claim", path=str(public))
    assert (code, shown.split()) == (0, ["-l", str(CHECKOUT / "man/manactl-claim.8")])


def test_without_a_page_the_options_are_printed(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/manactl").symlink_to(f"{SRC}/manactl")
    code, shown = on_terminal("help", "claim", src=str(tmp_path / "src"))
    assert (code, shown.split()[:3]) == (0, ["Usage:", "manactl", "claim"])
    # `help` itself has none.
    code, shown = on_terminal("help", "help")
    assert (code, shown.split()[:3]) == (0, ["Usage:", "manactl", "help"])


def test_an_unknown_command_is_a_usage_error_there_too() -> None:
    code, shown = on_terminal("help", "nonsense")
    assert code == 2
    assert "nonsense" in shown


def test_piped_help_is_text_and_cheap() -> None:
    script = (
        "import sys; from manactl.cli.main import main\n"
        "code = main(['help', 'status'])\n"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = run("-c", script)
    assert (done.returncode, done.stdout.split()[:3]) == (0, ["Usage:", "manactl", "status"])
    assert not EXPENSIVE & {name.split(".")[0] for name in done.stderr.split()}


def test_pages_are_found_where_they_are_installed(tmp_path: Path) -> None:
    compressed = tmp_path / "share/manactl-status.8.gz"
    compressed.parent.mkdir()
    compressed.touch()
    places = [str(tmp_path / "nowhere"), str(compressed.parent)]
    assert manual.find("manactl-status", places) == str(compressed)
    assert manual.find("manactl-claim", places) is None
    assert f"{sys.prefix}/share/man/man8" in manual.directories()

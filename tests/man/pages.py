r"""The manual's pages as data: sections, items, and examples that can be run.

The pages are mdoc(7). An example is a literal display in EXAMPLES, below a comment that says in
which scene of the lab (tests/lab/test_manual.py) it runs, or that it runs anywhere:

    .\" scene: NAME [exit: CODE...]
    .Bd -literal -offset indent
    # manactl release eth1
    eth1 released: up ...
    .Ed

`# ` (root) and `$ ` (anybody) begin a command, `> ` goes on with it, and what follows up to the next command is
the beginning or the whole of what it shows; `...` stands for anything. Every exit status is 0
unless all are listed. A display that no shell can run says why: `.\" not run: PromQL`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAN = Path(__file__).resolve().parents[2] / "man"
SCENES = ("up", "connected", "claimed", "held", "interrupted")  # in the lab
ANYWHERE = "anywhere"  # what needs no port runs where the tests run
_MARK = re.compile(r'\.\\" (?P<kind>scene|not run): (?P<rest>.*)')
_ESCAPES = {r"\e": "\\", r"\&": "", r"\-": "-", r"\(aq": "'", r"\(ba": "|", r"\ ": " "}


class Command(NamedTuple):
    """One command line of an example, and what it is shown to print."""

    text: str
    shown: str
    exit: int
    root: bool

    @property
    def changes(self) -> bool:
        """Whether it may do anything to a port."""
        acts = re.search(r"\bmanactl (claim|release|recover)\b", self.text)
        return bool(acts) and "--dry-run" not in self.text and self.exit == 0


class Example(NamedTuple):
    """A display in EXAMPLES. `scene` is None for one that is not run."""

    page: str
    line: int
    scene: str | None
    commands: tuple[Command, ...]

    @property
    def changes(self) -> bool:
        return any(command.changes for command in self.commands)


class Item(NamedTuple):
    """An entry of a list: its head and its text, both without markup."""

    head: str
    text: str


class Page:
    """One page, as checked in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.number = int(path.suffix[1:])
        self.lines = path.read_text().splitlines()

    def __str__(self) -> str:
        return self.path.name

    def value(self, macro: str) -> str:
        """The words behind a macro that is there once."""
        (found,) = [line for line in self.lines if line.split(" ")[0] == f".{macro}"]
        return found.partition(" ")[2]

    def section(self, title: str, *, sub: bool = False) -> list[str]:
        """The lines of a section (or of a subsection); [] when there is none."""
        start = f".{'Ss' if sub else 'Sh'} {title}"
        ends = (".Sh ", ".Ss ") if sub else (".Sh ",)
        found: list[str] = []
        inside = False
        for line in self.lines:
            if line.startswith(ends):
                inside = line == start
            elif inside:
                found.append(line)
        return found

    @property
    def references(self) -> set[str]:
        """Every page that is referred to, as "name(section)"."""
        found = (re.fullmatch(r"\.(?:It )?Xr (\S+) (\d)(?: .*)?", line) for line in self.lines)
        return {f"{match[1]}({match[2]})" for match in found if match}

    @property
    def examples(self) -> Iterator[Example]:
        mark: re.Match[str] | None = None
        display: list[str] | None = None
        first = self.lines.index(".Sh EXAMPLES") if ".Sh EXAMPLES" in self.lines else 0
        for number, line in enumerate(self.lines[first:] if first else [], first + 1):
            if match := _MARK.fullmatch(line):
                mark = match
            elif line.startswith(".Bd "):
                display = []
                start = number
            elif line == ".Ed" and display is not None:
                assert mark, f"{self}:{start}: an example without a mark"
                yield _example(f"{self}", start, mark, display)
                mark = display = None
            elif display is not None:
                display.append(unescape(line))
            elif line.startswith(".Sh ") and number > first + 1:
                return


def pages() -> list[Page]:
    return [Page(path) for path in sorted(MAN.glob("*.[1-9]"))]


def items(lines: list[str]) -> list[Item]:
    """The entries of the outermost lists."""
    found: list[tuple[str, list[str]]] = []
    depth = 0
    for line in lines:
        if line.startswith(".Bl"):
            depth += 1
        elif line == ".El":
            depth -= 1
        elif line.startswith(".It ") and depth == 1:
            found.append((line[4:], []))
        elif depth and found:
            found[-1][1].append(line)
    return [Item(plain(f".{head}"), " ".join(map(plain, text))) for head, text in found]


def plain(line: str) -> str:
    """A line of source as a reader sees it: ".Fl -wait Ar SECONDS ," -> "--wait SECONDS,"."""
    if not line.startswith("."):
        return unescape(line)
    if line.startswith(('.\\"', ".Pp", ".Bl", ".El", ".Bd", ".Ed")):
        return ""
    out: list[str] = []
    flag = False
    for word in unescape(line[1:]).split():
        if re.fullmatch("[A-Z][a-z]", word):
            flag = word == "Fl"
        else:
            out.append(f"-{word}" if flag and word not in {",", "|", "."} else word)
    return re.sub(r" ([,.;:])(?= |$)", r"\1", " ".join(out))


def unescape(text: str) -> str:
    return re.sub(r"\\\(..|\\.", lambda match: _ESCAPES[match[0]], text)


def _example(page: str, line: int, mark: re.Match[str], display: list[str]) -> Example:
    if mark["kind"] == "not run":
        return Example(page, line, None, ())
    scene, _, codes = mark["rest"].partition(" exit: ")
    found: list[list[str]] = []
    for text in display:
        if text.startswith(("# ", "$ ")):
            found.append([text])
        else:
            assert found, f"{page}:{line}: an example begins with a command"
            found[-1].append(text)
    exits = [int(code) for code in codes.split()] or [0] * len(found)
    assert len(exits) == len(found), f"{page}:{line}: an exit status for each command, or none"
    commands = []
    for (first, *rest), code in zip(found, exits, strict=True):
        more = [text[2:] for text in rest if text.startswith("> ")]
        shown = [text for text in rest if not text.startswith("> ")]
        words = "\n".join([first[2:], *more])
        commands.append(Command(words, "\n".join(shown), code, first[0] == "#"))
    return Example(page, line, scene, tuple(commands))


def shape(text: str) -> str:
    """What stays the same of an output wherever and whenever it is made."""
    for pattern, name in (
        (r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", "PCI"),
        (r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", "MAC"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"\(\d+(\.\d+)? m?s\)", "(COST)"),  # of a step
        (r"\d+(\.\d+)?(?= s\b)", "N"),
        (r"(?<=testpmd )\d+|(?<=pid )\d+", "PID"),
    ):
        text = re.sub(pattern, name, text)
    return " ".join(text.split())


def differs(shown: str, printed: str) -> str | None:
    """What of `shown` is not, in that order, in what was printed; None when all of it is."""
    rest = shape(printed)
    for part in shown.split("..."):
        wanted = shape(part)
        at = rest.find(wanted)
        if at < 0:
            return wanted
        rest = rest[at + len(wanted) :]
    return None

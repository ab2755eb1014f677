"""Shells on a machine with MANA ports: a private /sys, network and state, and the real manactl.

In a mount namespace a tree of files lies over /sys and another over /var/lib; in a network
namespace one port has addresses. `manactl` is a script that hands completions to the real one, and
otherwise only notes the words that it was called with: those that the completed line came to.
Where many TABs are to have the same answer, it repeats what the real one said the first time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.shells.terminal import Terminal
from tests.unit.journal.test_file import HEADER, written

TOP = Path(__file__).parents[2]
PROMPT = "READY>"
RAN = "manactl-has-run"
PCI, PCI_HOSTILE = "7870:00:00.0", "7871:00:00.0"
CLAIMED, HELD = 3, 4  # port numbers of eth2 and eth3
# Names that the kernel accepts (dev_valid_name()), each to be found by its first two characters.
HOSTILE = [
    *("h1'q'", 'h2"q"', "h3$HOME", "h4`>pwned`", "h5;>pwned", "h6*?[a]", "h7\\n\\", "h8!!"),
    *(
        "h9#x",
        "ha&|<>",
        "hb(){}",
        "hc~",
        "hd=x,y",
        "he%s%%",
        "hf^a^b",
        "hgé",
        "hh@x",
        "hi$(>pwned)",
    ),
]
UNPRINTABLE = "\x1b[31mred"

_MANACTL = """#!/bin/sh
if [ -n "${{_MANACTL_COMPLETE-}}" ]; then
    echo "$*" >>"$NOTES/asked"
    [ ! -e "$NOTES/replay" ] || exec cat "$NOTES/replay"
    {python} -m manactl "$@" | tee "$NOTES/answer"
    exit
fi
printf '%s\\0' "$@" >"$NOTES/new" && mv "$NOTES/new" "$NOTES/called"
echo {ran}
"""
_CLEARED = b"\x1b[2J"  # what clear(1) writes on an xterm
_SETUP = """
mount --bind "$TREE/sys" /sys
mount --bind "$TREE/lib" /var/lib
ip link set lo up
ip link add eth0 index 42 type bridge
ip addr add 10.0.1.4/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.1.1
exec setsid --ctty "$@"
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """How to start a shell, with its start-up file below HOME."""

    name: str
    argv: tuple[str, ...]
    startup: str
    text: str


KINDS = (
    Kind(
        "bash",
        ("bash", "--noprofile", "--rcfile", "rc", "-i"),
        "rc",
        f'PS1="{PROMPT} "\n. "$SHARE/bash-completion/completions/manactl"\n',
    ),
    Kind(
        "bash-completion",
        ("bash", "--noprofile", "--rcfile", "rc", "-i"),
        "rc",
        f'PS1="{PROMPT} "\n. /usr/share/bash-completion/bash_completion\n',
    ),
    Kind(
        "zsh",
        ("zsh", "-i"),
        ".zshrc",
        f'PS1="{PROMPT} "\nfpath=("$SHARE/zsh/site-functions" $fpath)\n'
        "autoload -Uz compinit\ncompinit -u -d $HOME/dump\n",
    ),
    Kind(
        "fish",
        ("fish", "--private"),
        ".config/fish/config.fish",
        f"function fish_prompt; printf '{PROMPT} '; end\nset -g fish_greeting\n"
        "set -g fish_autosuggestion_enabled 0\n",
    ),
)


def machine(base: Path) -> None:
    """The files below `base` that a shell sees as /sys and /var/lib."""
    for number in range(1, 6):
        _port(
            base,
            PCI,
            number,
            f"eth{number - 1}",
            up=number not in (CLAIMED, HELD),
            index=41 + number,
        )
    (base / f"sys/kernel/debug/mana/{PCI}/vport{HELD - 1}/EQs").mkdir(parents=True)
    (base / f"sys/kernel/debug/mana/{PCI}/vport{CLAIMED - 1}").mkdir(parents=True)
    for number, name in enumerate([*HOSTILE, UNPRINTABLE], 1):
        _port(base, PCI_HOSTILE, number, name, up=True, index=100 + number)
    ports = [{"pci": PCI, "port": CLAIMED, "permanent_mac": None, "netdev": "eth2"}]
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    header = {**HEADER, "ports": ports, "boot_id": boot_id}
    written(base / "lib/manactl", "doing", "claimed", header=header)


def _port(base: Path, pci: str, number: int, name: str, *, up: bool, index: int) -> None:
    function = base / "sys/bus/pci/devices" / pci
    (base / "sys/bus/pci/drivers/mana" / pci).mkdir(parents=True, exist_ok=True)
    net = function / "net" / name
    net.mkdir(parents=True)
    values = {"dev_port": number - 1, "ifindex": index, "flags": "0x1003" if up else "0x1002"}
    for file, value in values.items():
        (net / file).write_text(f"{value}\n")
    (function / f"infiniband/manae_{pci[3]}/ports/{number}").mkdir(parents=True)


def install(share: Path) -> None:
    """The scripts where pip puts them."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    for where, files in project["tool"]["setuptools"]["data-files"].items():
        place = share.parent / where
        place.mkdir(parents=True, exist_ok=True)
        for file in files:
            for path in TOP.glob(file):
                shutil.copy(path, place)


class Shell:
    """A shell at its prompt."""

    def __init__(self, kind: Kind, base: Path) -> None:
        self.kind = kind
        self._base = base
        self.home, self.notes = base / "home", base / "notes"
        for place in (self.home, self.notes, base / "bin"):
            place.mkdir(exist_ok=True)
        startup = self.home / kind.startup
        startup.parent.mkdir(parents=True, exist_ok=True)
        startup.write_text(kind.text)
        program = base / "bin/manactl"
        program.write_text(_MANACTL.format(python=sys.executable, ran=RAN))
        program.chmod(0o755)
        install(base / "share")
        machine(base / "tree")
        inside = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-euc", _SETUP]
        self.terminal = Terminal([*inside, "sh", *kind.argv], self._env(), str(self.home))
        self.terminal.shows(PROMPT)

    def _env(self) -> Mapping[str, str]:
        return {
            "PATH": f"{self._base}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TOP / "src"),
            "NOTES": str(self.notes),
            "SHARE": str(self._base / "share"),
            "TREE": str(self._base / "tree"),
            "XDG_DATA_DIRS": f"{self._base}/share:/usr/local/share:/usr/share",
        }

    def fresh(self) -> None:
        """An empty line on an empty screen, and nothing noted."""
        terminal, before = self.terminal, len(self.terminal.raw)
        terminal.type("\x05\x15clear\r")
        # The screen may be empty already, and the shell not yet ready for more.
        terminal.until(
            lambda: _CLEARED in terminal.raw[before:] and terminal.text == PROMPT,
            "an empty screen",
        )
        for name in ("asked", "called"):
            (self.notes / name).unlink(missing_ok=True)

    def enters(self, keys: str) -> list[str]:
        """Type, press Enter, and return the words that the program was called with."""
        terminal, called = self.terminal, self.notes / "called"
        before = len(terminal.raw)
        terminal.type(keys + "\r")
        # What is typed before the prompt is there goes to a terminal that is not the shell's yet.
        terminal.until(
            lambda: (
                RAN.encode() in terminal.raw[before:] and terminal.text.endswith(f"{RAN}\n{PROMPT}")
            ),
            f"the call after {keys!r}",
        )
        words = [os.fsdecode(word) for word in called.read_bytes().split(b"\0")[:-1]]
        called.unlink()
        return words

    @property
    def asked(self) -> list[str]:
        """The lines for which the program was asked."""
        notes = self.notes / "asked"
        return notes.read_text().splitlines() if notes.exists() else []

    @contextlib.contextmanager
    def replayed(self) -> Iterator[None]:
        """The last answer of the program is its answer to everything."""
        (self.notes / "answer").rename(self.notes / "replay")
        try:
            yield
        finally:
            (self.notes / "replay").unlink()

    def close(self) -> None:
        self.terminal.close()

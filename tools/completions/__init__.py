"""Makes completions/ for bash, zsh and fish from the command tree: `make completions`.

Subcommands, options and values that never change are written into the scripts; for a PORT they
ask `_MANACTL_COMPLETE=lines_complete manactl WORD... START` (manactl.cli.complete).
"""

from __future__ import annotations

from pathlib import Path

from tools.completions import bash, fish, tree, zsh

TOP = Path(__file__).parents[2]
HEAD = "Made by `make completions` from the command tree: change that, not this file."


def files() -> dict[Path, str]:
    """Every file of completions/ and what it has to contain."""
    commands = tree.read()
    where = TOP / "completions"
    return {
        where / "bash/manactl": bash.render(commands),
        where / "zsh/_manactl": zsh.render(commands),
        where / "fish/manactl.fish": fish.render(commands),
    }

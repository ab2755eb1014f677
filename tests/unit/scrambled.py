"""What manactl decides with other words: `python -m tests.unit.scrambled MODE`.

It imports manactl as tests.other_words has it, and prints, as JSON, what manactl decides in the
scenes of tests.unit.scenes, and the words that came with it.
"""

from __future__ import annotations

import json
import sys

from tests import other_words


def main(mode: str) -> None:
    other_words.install(mode)
    from tests.unit import scenes  # noqa: PLC0415 - with the finder in place

    json.dump(scenes.play(), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])

"""What is looked at, in words."""

from __future__ import annotations

import pytest

from manactl.look import source_words as words

pytestmark = pytest.mark.wording


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.domains_in_use(1), "1 protection domain in use"),
        (words.domains_in_use(2), "2 protection domains in use"),
        (words.in_software(words.in_kernel(["siw", "rxe"])), "siw, rxe in the kernel, in software"),
        (words.queue_pairs(1), "1 RC or UD queue pair"),
        (words.queue_pairs(3), "3 RC or UD queue pairs"),
        (words.is_no_mana("mlx5_0", 0x15B3, 4), "mlx5_0 is not a MANA Ethernet device (vendor 0x15b3, part 4)"),
        (words.no_port("mana_0", 3, 2), "mana_0 has no port 3: its ports are 1 to 2"),
        (words.mosh("pid 7 mosh-server", 60001), "pid 7 mosh-server on UDP port 60001"),
    ],
)  # fmt: skip
def test_what_is_said(said: str, expected: str) -> None:
    assert said == expected


@pytest.mark.parametrize(("names", "among"), [(["mana_0"], ""), (["a", "b"], " among them")])
def test_where_a_device_is_that_cannot_be_seen(names: list[str], among: str) -> None:
    said = words.device_elsewhere(names, "7870:00:00.0")
    assert said.startswith(
        f"raw-QP device in another network namespace ({', '.join(names)}{among} of 7870:00:00.0)"
    )

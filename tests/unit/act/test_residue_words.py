"""What is not as it was, line by line."""

from __future__ import annotations

import pytest

from manactl.act import residue_words as words
from tests.unit.fakes import route

pytestmark = pytest.mark.wording

NAMES = {3: "eth1", 4: "eth2"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.upper_gone("vlan7", 2), "vlan7 (it is gone, with 2 addresses, routes or the like)"),
        (words.upper_not("vlan7", True, words.NOT_KEPT), "vlan7 up (it does not stay so)"),
        (
            words.active_slave("eth1", "bond0", "eth2", words.GONE),
            "active slave eth1 of bond0: now eth2 (it is gone)",
        ),
        (words.device_gone("eth1", None), "eth1 is gone"),
        (words.device_gone("eth1", "eth9"), "eth1 is gone, eth9 has its number now"),
        (words.other_nexthop(7, "via x"), "nexthop id 7 is not what it was: via x"),
        (words.unnamed("eth1", "eth9", "why"), "the name eth1: it is called eth9 (why)"),
        (words.macsec_keys("ms0"), "keys of macsec ms0 (they cannot be read)"),
        (words.not_made("vlan7", "why"), "vlan7: not made again (why)"),
        (
            words.setting_changed("eth1: mtu 9000"),
            "eth1: mtu 9000 (it was changed while the port was claimed, left as it is)",
        ),
        (words.other_lease("10.0.0.4/24"), "10.0.0.4/24 (its manager has another one now)"),
        (
            words.not_configured("nm", ["eth1", "eth2"], 30.0),
            "nm has not configured eth1, eth2 again within 30 s",
        ),
        (
            words.not_configured_since_boot("nm", ["eth1"], 30.0),
            "nm has not configured eth1 within 30 s",
        ),
        (words.admin("eth1", True, False), "eth1 is up (down before the claim)"),
        (words.failed(words.data_path_of("eth1"), "why"), "the data path of eth1: why"),
    ],
)
def test_a_line_says_what_and_why(said: str, expected: str) -> None:
    assert said == expected


def test_what_is_there_instead_is_shown_or_only_its_settings() -> None:
    there, other = route("10.2.0.0", 16), route("10.3.0.0", 16)
    assert words.there_is(there, other, NAMES).startswith("there is instead: 10.2.0.0/16")
    assert words.there_is(there, there, NAMES).startswith(
        "there is instead: the same with other settings: "
    )

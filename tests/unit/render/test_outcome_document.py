"""The documents of claim and release, key by key."""

from __future__ import annotations

from manactl.act.claim import ClaimResult
from manactl.act.released import Outcome, ReleasedPort, ReleaseResult
from manactl.act.restore import Lost
from manactl.model.port import Holder
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Kind
from manactl.render.outcome_document import claim_document, release_document
from tests.unit import schema
from tests.unit.decide.scene import STATE, STATUS
from tests.unit.fakes import PORT


def test_a_port_that_was_down_has_nothing_kept() -> None:
    down = {PORT: STATE.__class__(PORT, 3, "eth1", False, False, 1.0, STATE.facts)}
    document = claim_document(ClaimResult(None, states=down, ports=(STATUS,)))
    schema.strict(document)
    (port,) = document["ports"]  # type: ignore[misc]
    assert (port["was"], port["kept"], port["down_ms"], port["proof"]) == ("down", {}, None, None)
    assert (document["plan"], document["journal"], document["already"]) == (None, None, False)


def test_every_key_of_a_released_port() -> None:
    port = ReleasedPort(
        PORT, "eth1", Outcome.RESTORED, True, {Kind.ADDRESS: 2}, ("gone",), ("new",), ("later",),
        (Lost(Cause.BPF, "that"),), None, 2.5, True, 9.0,
    )  # fmt: skip
    holder = Holder(7, "testpmd", None, 0, None, None, None)
    document = release_document(ReleaseResult([port], [], [holder]), "recover")
    schema.strict(document)
    assert document["schema"] == "manactl.recover/1"
    assert document["terminated"] == [{"pid": 7, "comm": "testpmd"}]
    assert document["ports"] == [
        {
            "netdev": "eth1", "pci": PORT.pci, "port": 1, "permanent_mac": PORT.permanent_mac,
            "outcome": "restored", "recovered": True, "restored": {"addresses": 2},
            "expired": ["gone"], "extra": ["new"], "advertised": ["later"],
            "lost": [{"cause": "bpf", "text": "that"}], "settling": None, "carrier": True, "up_ms": 2.5, "down_for_s": 9.0, "residue": [], "given_back": None,
        }
    ]  # fmt: skip

"""Ports that cannot be claimed as they are, whatever is allowed."""

from __future__ import annotations

import pytest

from manactl.decide import claimable
from manactl.decide.codes import Code
from manactl.decide.refusal import HeldBy, NoRdmaDevice, OwnerUnprovable
from manactl.model.port import Holder, Owner, Upper
from tests.unit.decide.scene import STATUS

assert STATUS.netdev is not None
DOWN = STATUS.netdev._replace(flags=0x1002)
HOLDER = Holder(4211, "dpdk-testpmd", None, 0, None, None, None)
UNKNOWN = STATUS._replace(owner=Owner.UNKNOWN)


def codes(port: object, *, can_prove: bool = True) -> list[Code]:
    return [no.code for no in claimable.refusals(port, can_prove=can_prove)]  # type: ignore[arg-type]


@pytest.mark.parametrize("can_prove", [False, True])
def test_a_port_of_the_kernel_is_claimable(can_prove: bool) -> None:
    assert codes(STATUS, can_prove=can_prove) == []
    assert codes(STATUS._replace(owner=Owner.FREE, netdev=DOWN), can_prove=can_prove) == []
    assert codes(STATUS._replace(upper=Upper("bond0", "bond")), can_prove=can_prove) == []


def test_what_is_not_supported() -> None:
    (no,) = claimable.refusals(STATUS._replace(rdma=None), can_prove=True)
    assert (no.code, no.facts) == (Code.UNSUPPORTED, NoRdmaDevice())
    assert codes(STATUS._replace(upper=Upper("eth9", "netvsc", "f861"))) == []


def test_a_raw_device_elsewhere_is_no_driver_that_is_missing() -> None:
    port = STATUS._replace(rdma=None, raw_elsewhere=True, rdma_elsewhere=("manae_0",))
    (no,) = claimable.refusals(port, can_prove=True)
    assert (no.code, no.facts) == (Code.UNSUPPORTED, NoRdmaDevice(True, ("manae_0",)))
    held = port._replace(owner=Owner.RAW_QP, holders=(HOLDER,))
    assert codes(held) == [Code.UNSUPPORTED, Code.HOLDER]
    # That the RNIC's is elsewhere keeps nobody from a raw QP.
    assert codes(STATUS._replace(rdma_elsewhere=("mana_0",))) == []


def test_a_live_holder_refuses_by_name() -> None:
    (no,) = claimable.refusals(
        STATUS._replace(owner=Owner.RAW_QP, holders=(HOLDER,)), can_prove=True
    )
    assert (no.code, no.facts) == (Code.HOLDER, HeldBy((HOLDER,)))


def test_an_owner_that_only_a_test_qp_can_tell_needs_the_privilege() -> None:
    (no,) = claimable.refusals(UNKNOWN._replace(netdev=DOWN), can_prove=False)
    assert (no.code, no.facts) == (Code.DENIED, OwnerUnprovable(UNKNOWN.evidence))
    assert codes(UNKNOWN._replace(netdev=DOWN)) == []
    assert codes(UNKNOWN._replace(netdev=None), can_prove=False) == []


def test_a_netdev_that_is_up_without_an_owner_is_in_transition() -> None:
    assert codes(UNKNOWN) == [Code.IN_TRANSITION]
    assert codes(UNKNOWN, can_prove=False) == [Code.DENIED]


@pytest.mark.parametrize("state", ["in_reset", "eqs_lost"])
def test_what_is_the_guards_to_refuse_is_left_to_them(state: str) -> None:
    assert codes(UNKNOWN._replace(rdma=None, **{state: True})) == []


def test_all_reasons_are_given_at_once() -> None:
    port = STATUS._replace(rdma=None, owner=Owner.RAW_QP)
    assert codes(port) == [Code.UNSUPPORTED, Code.HOLDER]

"""What is lacking, and where it would have to be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.act.host import CAP_NET_ADMIN, CAP_NET_RAW
from manactl.act.privilege import capable, need_net_admin
from manactl.errors import Denied
from manactl.model.port import Evidence
from tests.unit.host import NET_ADMIN, NET_RAW, FakeHost, claim, furnished, release
from tests.unit.wording import Coded, read, says, wording


@pytest.mark.parametrize(
    ("mask", "admin", "raw"),
    [(0, False, False), (NET_ADMIN, True, False), (NET_RAW, False, True),
     (NET_ADMIN | NET_RAW, True, True), (~(NET_ADMIN | NET_RAW), False, False)],
)  # fmt: skip
def test_one_capability_says_nothing_of_another(mask: int, admin: bool, raw: bool) -> None:
    host = FakeHost(furnished())
    host.mask = mask & (1 << 64) - 1
    assert (capable(host, CAP_NET_ADMIN), capable(host, CAP_NET_RAW)) == (admin, raw)


def test_whoever_has_it_is_let_through() -> None:
    host = FakeHost(furnished())
    host.mask = NET_ADMIN
    need_net_admin(host, "hold")
    host.mask = NET_RAW
    with pytest.raises(
        Denied,
        match=says("hold needs CAP_NET_ADMIN; nothing was touched"),
        check=Coded("denied", untouched=True),
    ):
        need_net_admin(host, "hold")


def test_a_missing_capability_is_shown_with_those_that_are_there(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    host.mask = NET_RAW
    with pytest.raises(Denied) as caught:
        claim(tmp_path, host)
    assert ("proc", "0x2000") in read(caught.value.evidence)
    with wording:
        assert Evidence("proc", "CapEff, what counts here", "0x2000") in caught.value.evidence
        assert "sudo" in (caught.value.hint or "")
    assert "user namespace" not in caught.value.message


@pytest.mark.parametrize("verb", ["claim", "release"])
def test_root_of_a_user_namespace_is_told_what_it_lacks(tmp_path: Path, verb: str) -> None:
    kernel = furnished()
    if verb == "release":
        claim(tmp_path, FakeHost(kernel))
    host = FakeHost(kernel)
    host.mask, host.rootless = 0, True
    with pytest.raises(Denied) as caught:
        claim(tmp_path, host) if verb == "claim" else release(tmp_path, host)
    with wording:
        assert f"{verb} needs CAP_NET_ADMIN in the user namespace that owns" in caught.value.message
    assert caught.value.exit_code == 7
    with wording:
        assert "outside" in (caught.value.hint or "")

"""A claim belongs to the network namespace that it was made in: nothing of it goes elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.errors import Busy, ManactlError, NotRestored
from manactl.journal import file as journal
from manactl.look.netns import Namespace
from manactl.model.claim import NetnsId
from tests.unit.act.test_accept import accept, history, picture, reading
from tests.unit.act.test_interruption import default_signals
from tests.unit.act.test_release import claims, outcomes
from tests.unit.host import FakeHost, Fate, Killed, claim, furnished, release, two_ports
from tests.unit.kernel import Kernel
from tests.unit.wording import Coded, says, wording

__all__ = ["default_signals"]  # a fixture

POD = NetnsId(4026532291, 17)
NAMED = Namespace("pod", "/run/netns/pod", 4026532291)
IN_A_PROCESS = (  # with a /sys of that namespace
    "nsenter --net=/proc/811/ns/net unshare --mount sh -c "
    "'mount -t sysfs sysfs /sys && exec manactl release 7870:00:00.0:1'"
)
OF_A_PROCESS = Namespace("/proc/811/ns/net", "/proc/811/ns/net", 4026532291)
MOUNTED = Namespace("/run/docker/netns/a1", "/run/docker/netns/a1", 4026532291)


def in_pod(kernel: Kernel, fate: Fate | None = None) -> FakeHost:
    host = FakeHost(kernel, fate)
    host.here = POD
    return host


def claimed_in_pod(state_dir: Path) -> Kernel:
    kernel = furnished()
    claim(state_dir, in_pod(kernel))
    return kernel


def refused(state_dir: Path, host: FakeHost, *words: str, **more: bool) -> NotRestored:
    before = picture(host.kernel)
    with pytest.raises(NotRestored) as caught:
        release(state_dir, host, *words, **more)
    assert picture(host.kernel) == before
    assert caught.value.code == "foreign-netns"
    return caught.value


def test_the_journal_says_where_it_was_claimed(tmp_path: Path) -> None:
    claimed_in_pod(tmp_path)
    (path,) = journal.paths(tmp_path)
    assert journal.read(path).header["netns"] == {"inode": 4026532291, "cookie": 17}
    assert journal.read(path).netns == POD


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("how", ["release", "recover"])
def test_nothing_of_a_pod_that_is_gone_is_written_here(
    tmp_path: Path, how: str, dry_run: bool
) -> None:
    """Its netdev has come back, and is down; a release in the pod may have died on the way."""
    kernel = claimed_in_pod(tmp_path)
    if how == "recover":
        with pytest.raises(Killed):
            release(tmp_path, in_pod(kernel, Fate(dies_at=4)))
        assert claims(tmp_path) == [(1, "interrupted")]
    host = reading(kernel)
    error = refused(tmp_path, host, recover=how == "recover", dry_run=dry_run)
    with wording:
        assert "claimed in the network namespace 4026532291, which is gone" in error.message
    assert "10.0.0.2/24" in error.message
    assert "10.128.0.0/9 via 10.0.0.1" in error.message
    lines = [one.value for one in error.evidence if one.fact == "not restored"]
    with wording:
        assert len(lines) == error.message.count("\n  ")
    assert "manactl recover --accept 7870:00:00.0:1" in (error.hint or "")
    assert len(claims(tmp_path)) == 1


def test_accepting_closes_the_claim_of_a_pod_that_is_gone(tmp_path: Path) -> None:
    """It stands, and yet nothing can release it any more."""
    kernel = claimed_in_pod(tmp_path)
    before = picture(kernel)
    done = accept(tmp_path, reading(kernel), "7870:00:00.0:1")
    assert picture(kernel) == before
    assert outcomes(done) == [("eth1", "accepted")]
    (port,) = done.ports
    with wording:
        assert port.residue[0].endswith("which is gone, or not visible here")
    assert any("10.0.0.2/24" in line for line in port.residue)
    assert claims(tmp_path) == []
    assert len(history(tmp_path)) == 1


def test_all_ports_of_a_pod_that_is_gone_are_accepted_together(tmp_path: Path) -> None:
    kernel = two_ports()
    claim(tmp_path, in_pod(kernel), "eth1", "eth2")
    done = accept(tmp_path, reading(kernel))
    assert [bool(port.residue) for port in done.ports] == [True, True]
    assert claims(tmp_path) == []


def test_a_holder_of_that_port_keeps_its_claim(tmp_path: Path) -> None:
    kernel = claimed_in_pod(tmp_path)
    kernel.nics[0].holders = [4211]
    with pytest.raises(Busy):
        accept(tmp_path, reading(kernel), "7870:00:00.0:1")
    assert claims(tmp_path) == [(1, "claimed")]


@pytest.mark.parametrize(
    ("place", "there", "back"),
    [
        (NAMED, "ip netns exec pod manactl release 7870:00:00.0:1", "netns pod"),
        (OF_A_PROCESS, IN_A_PROCESS, "netns 811"),
        (MOUNTED, IN_A_PROCESS.replace("/proc/811/ns/net", MOUNTED.path), f"netns {MOUNTED.path}"),
    ],
)  # fmt: skip
def test_a_pod_that_lives_is_where_to_run_it(
    tmp_path: Path, place: Namespace, there: str, back: str
) -> None:
    kernel = claimed_in_pod(tmp_path)
    host = reading(kernel)
    host.living = {POD: place}
    error = refused(tmp_path, host)
    with wording:
        assert f"run it there: {there};" in (error.hint or "")
    assert (error.hint or "").endswith(back)
    with pytest.raises(
        NotRestored, match=says("claimed in the network namespace"), check=Coded("foreign-netns")
    ):
        accept(tmp_path, host, "7870:00:00.0:1")
    with pytest.raises(Busy) as caught:
        claim(tmp_path, host)
    with wording:
        assert f"release it there: {there}" in (caught.value.hint or "")
    assert claims(tmp_path) == [(1, "claimed")]
    assert outcomes(release(tmp_path, in_pod(kernel))) == [("eth1", "restored")]


@pytest.mark.wording
def test_the_number_of_a_pod_that_is_gone_may_be_anothers(tmp_path: Path) -> None:
    """The next pod gets the inode number of the last; the cookie is its own."""
    kernel = claimed_in_pod(tmp_path)
    host = reading(kernel)
    host.here = NetnsId(POD.inode, 18)
    assert "which is gone" in refused(tmp_path, host).message


@pytest.mark.parametrize("cookie", [None, 17])
def test_where_the_kernel_has_no_cookies_the_inode_has_to_do(
    tmp_path: Path, cookie: int | None
) -> None:
    kernel = claimed_in_pod(tmp_path)
    host = FakeHost(kernel)
    host.here = NetnsId(POD.inode, cookie)
    assert outcomes(release(tmp_path, host)) == [("eth1", "restored")]


def test_a_claim_of_another_namespace_covers_nothing_here(tmp_path: Path) -> None:
    """Else a pod that gets the port next would be told that it has it, and hold nothing."""
    kernel = claimed_in_pod(tmp_path)
    with pytest.raises(ManactlError) as caught:
        claim(tmp_path, reading(kernel))
    assert (caught.value.exit_code, caught.value.code) == (6, "drift")
    assert "manactl recover --accept eth1" in (caught.value.hint or "")


def test_a_journal_that_does_not_say_where_is_released_as_ever(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    claim(tmp_path, host)
    (path,) = journal.paths(tmp_path)
    content = journal.read(path)
    header = {name: value for name, value in content.header.items() if name != "netns"}
    path.unlink()
    with journal.Journal.create(tmp_path, header, content.ports) as log:
        for record in content.records:
            more = {k: v for k, v in record.items() if k not in ("n", "t", "event")}
            log.append(record["event"], **more)
    assert outcomes(release(tmp_path, in_pod(kernel))) == [("eth1", "restored")]
    assert kernel.picture() == before

"""A claim through the very connection that it cuts: a real sshd, reached over the claimed port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import networks
from tests.lab.managed import spare
from tests.lab.scene import owners
from tests.lab.users import eventually
from tests.lab.vm import Vm
from tests.unit.wording import wording

PATIENCE = 120  # s for what a loaded host makes long
FAR = "far"
# The client is in a network namespace with the other port, as if it were another machine.
SCENE = """
ip link set {port} up; ip addr add 10.1.0.4/24 dev {port}
ip addr add 2001:db8:1::4/64 dev {port} nodad; ip route add 192.0.2.0/24 via 10.1.0.9
ip netns add {far}; ip link set {other} netns {far}
ip -n {far} link set lo up; ip -n {far} link set {other} up
ip -n {far} addr add 10.1.0.9/24 dev {other}
mkdir -p /run/sshd /tmp/ssh; chmod 700 /tmp/ssh
for key in host user; do
    [ -e /tmp/ssh/$key ] || ssh-keygen -q -t ed25519 -N '' -f /tmp/ssh/$key
done
cp /tmp/ssh/user.pub /tmp/ssh/authorized
printf '%s\\n' 'HostKey /tmp/ssh/host' 'AuthorizedKeysFile /tmp/ssh/authorized' \
    'PermitRootLogin yes' 'StrictModes no' 'UsePAM yes' 'ListenAddress 10.1.0.4' \
    > /tmp/ssh/config
mkdir -p /run/systemd/logind.conf.d
printf '[Login]\nKillUserProcesses=yes\nKillExcludeUsers=\n' > /run/systemd/logind.conf.d/lab.conf
systemctl restart systemd-logind
systemd-run -q --unit=lab-sshd /usr/sbin/sshd -D -e -f /tmp/ssh/config
"""
SSH = (
    "ip netns exec {far} ssh -F none -i /tmp/ssh/user -o StrictHostKeyChecking=no -o LogLevel=ERROR "
    "-o UserKnownHostsFile=/dev/null -o ConnectTimeout=60 {tty} root@10.1.0.4"
)


@dataclass(frozen=True)
class Machine:
    """One that is logged in to over its first port."""

    vm: Vm
    port: str

    def ssh(self, line: str, *, tty: str = "-T") -> str:
        """The words of a command line that runs another one there, by SSH."""
        return f"{SSH.format(far=FAR, tty=tty)} '{line}'"

    def view(self) -> dict[str, list[str]]:
        return networks.settle(lambda: self.vm.run(["sh", "-s"], input=networks.reading()).out)

    def same(self, before: dict[str, list[str]]) -> None:
        found = networks.differences(before, self.view())
        assert found == [], "\n".join(found)


@pytest.fixture
def machine(booted: Vm) -> Iterator[Machine]:
    spare(booted)
    port, other = booted.netdevs[1], booted.netdevs[2]
    booted.run(SCENE.format(port=port, other=other, far=FAR))
    made = Machine(booted, port)
    eventually(
        lambda: booted.run(made.ssh("true"), check=False).rc == 0, PATIENCE, "sshd to be there"
    )
    yield made
    booted.run("systemctl stop lab-sshd; pkill -KILL -x ssh; rm -rf /tmp/ssh", check=False)
    booted.run("rm -r /run/systemd/logind.conf.d; systemctl restart systemd-logind")
    eventually(lambda: booted.run("pgrep sshd", check=False).rc != 0, PATIENCE, "sshd to be gone")


def waive(machine: Machine, within: int) -> str:
    return (
        f"manactl claim --raw-qp {machine.port} --allow ssh-session --allow tcp-established "
        f"--confirm-within {within}"
    )


def test_whoever_has_locked_himself_out_is_let_in_again(machine: Machine) -> None:
    vm = machine.vm
    before = machine.view()
    refused = vm.run(machine.ssh(f"manactl claim --raw-qp {machine.port}"), check=False)
    assert refused.rc == 3
    with wording:
        assert "the SSH session of this command runs over it" in refused.err
    assert "--allow ssh-session --allow tcp-established --confirm-within 120" in refused.err

    process = vm.spawn(["sh", "-c", machine.ssh(waive(machine, 20), tty="-tt")])
    eventually(lambda: owners(vm)[1] == "free", PATIENCE, "the port to be claimed")
    pid = vm.run("pgrep -x manactl-guard").out.strip()
    assert vm.run(f"systemctl is-active manactl-guard-{pid}.scope").out == "active\n"
    # The client is gone for good, and so is the session: its terminal hangs up.
    process.kill()
    vm.run("pkill -KILL -x ssh; pkill -KILL -f '[s]shd.*: root'", check=False)
    eventually(lambda: owners(vm)[1] == "ethernet", PATIENCE, "the port to be back")
    eventually(lambda: not vm.run("pgrep -x manactl-guard", check=False).out, PATIENCE)
    machine.same(before)
    told = vm.run(machine.ssh(f"manactl history {machine.port} --json")).json()["claims"]
    assert (told[0]["ending"], told[0]["why"]) == ("released", "expired")
    said = vm.run("journalctl -b -o json MANACTL_REASON=expired").out.splitlines()
    assert "release" in {json.loads(line).get("MANACTL_VERB") for line in said}


def test_what_is_confirmed_over_another_way_stays(machine: Machine) -> None:
    vm = machine.vm
    before = machine.view()
    process = vm.spawn(["sh", "-c", machine.ssh(waive(machine, 600))])
    eventually(
        lambda: machine.port in vm.run("manactl confirm", check=False).out,
        PATIENCE,
        "the claim to be made, and confirmed",
    )
    eventually(lambda: not vm.run("pgrep -x manactl-guard", check=False).out, PATIENCE)
    assert owners(vm)[1] == "free"
    process.kill()
    vm.run("manactl release")
    machine.same(before)
    assert vm.run(machine.ssh("true")).rc == 0

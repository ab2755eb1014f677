"""The units of the package, below the real systemd: claimed, crashed, restarted, stopped."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import networks
from tests.lab.image import CHECKOUT, GUEST_CHECKOUT
from tests.lab.managed import PATIENCE, spare
from tests.lab.scene import becomes, manactl, owners
from tests.lab.site import rewritten
from tests.lab.users import GUEST, eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import OWN_WORDS, wording

UNITS = CHECKOUT / "src/manactl/systemd"
INSTALLED = f"/{GUEST_CHECKOUT}/src/manactl/systemd"
# Exposure as `systemd-analyze security` counts it, in tenths; README.md says it.
WORST = {
    "manactl-claim@.service": 66,
    "manactl-hold.service": 28,
    "manactl-recover.service": 66,
}
# What an application's unit needs of manactl: two lines.
APPLICATION = """
[Unit]
Requires=manactl-claim@{port}.service
After=manactl-claim@{port}.service
[Service]
ExecStart=/bin/sh -c '(echo create 2; exec sleep infinity) | exec python3 {guest}/rawqp.py'
Restart=on-failure
"""


@pytest.fixture
def port(booted: Vm) -> Iterator[str]:
    """The second port, up and with addresses; the units are installed."""
    spare(booted)
    name = booted.netdevs[2]
    booted.run(f"""
        ip link set {name} up; ip addr add 10.0.2.1/24 dev {name}
        ip addr add 2001:db8:2::1/64 dev {name} nodad
        ip route add 192.0.2.0/24 via 10.0.2.9 dev {name}
        cp {INSTALLED}/* /run/systemd/system/ && systemctl daemon-reload
    """)
    yield name
    booted.run("systemctl stop 'manactl-*' app.service", check=False)


def view(vm: Vm) -> dict[str, list[str]]:
    return networks.settle(lambda: vm.run(["sh", "-s"], input=networks.reading()).out)


def active(vm: Vm, unit: str) -> str:
    return str(vm.run(["systemctl", "is-active", unit], check=False).out.strip())


def test_systemd_finds_nothing_wrong_with_them(booted: Vm, port: str) -> None:
    names = sorted(path.name for path in UNITS.iterdir())
    assert names == sorted(WORST)
    booted.put("/run/systemd/system/app.service", APPLICATION.format(port=port, guest=GUEST))
    for name in (*names, "app.service"):
        instance = name.replace("@.", f"@{port}.")
        result = booted.run(["systemd-analyze", "verify", f"/run/systemd/system/{instance}"])
        assert (result.out, result.err) == ("", "")
    for name, worst in WORST.items():
        words = ["systemd-analyze", "security", "--offline=true", f"--threshold={worst}"]
        result = booted.run([*words, f"{INSTALLED}/{name}"], check=False)
        assert result.rc == 0, result.out


def test_a_claim_at_boot_comes_when_the_managers_have_configured_the_port(
    booted: Vm, port: str
) -> None:
    """As far as the boot waits for that. A port without its addresses yet would pass all guards."""
    shown = booted.run(["systemctl", "show", "-P", "After", f"manactl-claim@{port}.service"]).out
    assert {"network-online.target", "network.target"} <= set(shown.split())


def test_an_application_needs_two_lines(booted: Vm, port: str) -> None:
    before = view(booted)
    claim = f"manactl-claim@{port}.service"
    booted.put("/run/systemd/system/app.service", APPLICATION.format(port=port, guest=GUEST))
    booted.run(["systemctl", "start", "app.service"])
    becomes(booted, 2, "raw-qp")
    assert active(booted, claim) == "active"

    pid = main_pid(booted)
    booted.run(["pkill", "-KILL", "-f", "guest/rawqp.py"])
    eventually(lambda: main_pid(booted) not in {"0", pid}, what="the application to be restarted")
    becomes(booted, 2, "raw-qp")
    assert active(booted, claim) == "active"

    booted.run(["systemctl", "restart", "app.service"])
    becomes(booted, 2, "raw-qp")
    booted.run(["systemctl", "stop", claim])  # the application first, as it requires it
    assert (active(booted, "app.service"), active(booted, claim)) == ("inactive", "inactive")
    becomes(booted, 2, "ethernet")
    found = networks.differences(before, view(booted))
    assert found == [], "\n".join(found)


def main_pid(vm: Vm) -> str:
    return str(vm.run(["systemctl", "show", "-P", "MainPID", "app.service"]).out.strip())


def test_a_refusal_is_the_failure_of_the_unit_and_of_what_needs_it(booted: Vm, port: str) -> None:
    before = view(booted)
    claim = f"manactl-claim@{port}.service"
    booted.put("/run/systemd/system/app.service", APPLICATION.format(port=port, guest=GUEST))
    booted.run(f"ip route add default via 10.0.2.254 dev {port}")
    assert booted.run(["systemctl", "start", "app.service"], check=False).rc != 0
    assert active(booted, claim) == "failed"
    assert owners(booted)[2] == "ethernet"
    said = booted.run(["journalctl", "-b", "-o", "cat", "-u", claim]).out
    assert "default-route" in said
    booted.run(f"ip route del default via 10.0.2.254 dev {port}")
    found = networks.differences(before, view(booted))
    assert found == [], "\n".join(found)


def test_a_drop_in_gives_the_claim_more_options(booted: Vm, port: str) -> None:
    claim = f"manactl-claim@{port}.service"
    options = f"/run/systemd/system/{claim}.d/options.conf"
    booted.put(options, '[Service]\nEnvironment="CLAIM_OPTIONS=--wait 5 --json"\n')
    booted.run(["systemctl", "daemon-reload"])
    booted.run(["systemctl", "start", claim])
    said = booted.run(["journalctl", "-b", "-o", "cat", "-u", claim]).out
    assert '"schema": "manactl.claim/1"' in said
    booted.run(["systemctl", "stop", claim])
    becomes(booted, 2, "ethernet")


def test_a_release_by_hand_does_not_fail_the_unit(booted: Vm, port: str) -> None:
    claim = f"manactl-claim@{port}.service"
    booted.run(["systemctl", "start", claim])
    assert manactl(booted, "release", port).rc == 0
    booted.run(["systemctl", "stop", claim])
    assert active(booted, claim) == "inactive"


def test_a_holder_that_stays_fails_the_stop_and_the_next_one_works(booted: Vm, port: str) -> None:
    claim = f"manactl-claim@{port}.service"
    quick = f"/run/systemd/system/{claim}.d/quick.conf"
    booted.put(quick, f"[Service]\nExecStop=\nExecStop=manactl release --wait 1 {port}\n")
    booted.run(["systemctl", "daemon-reload"])
    booted.run(["systemctl", "start", claim])
    with user(booted, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        booted.run(["systemctl", "stop", claim], check=False)
        assert active(booted, claim) == "failed"
        assert owners(booted)[2] == "raw-qp"
    booted.run(["systemctl", "start", claim])  # the claim that stands is this unit's again
    booted.run(["systemctl", "stop", claim])
    becomes(booted, 2, "ethernet")
    assert active(booted, claim) == "inactive"


def test_the_next_boot_undoes_what_was_interrupted_only_where_there_is_something(
    booted: Vm, port: str
) -> None:
    unit = "manactl-recover.service"
    booted.run(["systemctl", "start", unit])
    shown = booted.run(["systemctl", "show", "-P", "ConditionResult", unit]).out.strip()
    assert shown == "no"
    assert manactl(booted, "claim", "--raw-qp", port).rc == 0
    # As after a reboot: the claim's journal is of another boot.
    (name,) = booted.run("ls /var/lib/manactl/claims").out.split()
    another_boot(booted, f"/var/lib/manactl/claims/{name}")
    booted.run(["ip", "link", "set", port, "up"])
    booted.run(["systemctl", "start", unit])
    assert booted.run("ls /var/lib/manactl/claims").out.split() == []
    assert active(booted, unit) == "inactive"
    assert owners(booted)[2] == "ethernet"


def another_boot(vm: Vm, path: str) -> None:
    ours = vm.get("/proc/sys/kernel/random/boot_id").decode().strip()
    other = ("1" if ours[0] == "0" else "0") + ours[1:]

    def change(header: dict[str, Any]) -> None:
        text = json.dumps(header)
        assert ours in text
        header |= json.loads(text.replace(ours, other))

    vm.put(path, rewritten(vm.get(path), change), 0o600)


def test_hold_is_a_service_for_all_claims(booted: Vm, port: str) -> None:
    before = view(booted)
    unit, claim = "manactl-hold.service", f"manactl-claim@{port}.service"

    def says(wanted: str, name: str = "") -> None:
        """With other words, the name alone."""
        ask = ["systemctl", "show", "-P", "StatusText", unit]

        def there() -> bool:
            text = booted.run(ask).out.strip()
            return text == wanted if OWN_WORDS else bool(text) and (port in text) is bool(name)

        eventually(there, PATIENCE, wanted)

    def stranger(number: int, pid: str = "") -> None:
        """A unit sets the port up; it is down again, and its name stands in the journal, even if
        it has gone before anybody looks: `pid` is stopped meanwhile."""
        name = f"stranger{number}.service"
        if pid:
            booted.run(["kill", "-STOP", pid])
        booted.run(["systemd-run", "-q", "--wait", "-u", name, "ip", "link", "set", port, "up"])
        if pid:
            booted.run(["kill", "-CONT", pid])
        eventually(lambda: f", {name})" in journal(), PATIENCE, name)
        with wording:
            assert f", {name}): set down again" in journal()
        becomes(booted, 2, "free")

    def journal() -> str:
        return str(booted.run(["journalctl", "-b", "-o", "cat", "-u", unit]).out)

    booted.run(["systemctl", "start", unit])  # until it is ready
    says("nothing is claimed; waiting for a claim")
    booted.run(["systemctl", "start", claim])
    says(f"keeping down {port}", port)
    main = ["systemctl", "show", "-P", "MainPID", unit]
    pid = booted.run(main).out.strip()
    stranger(1, pid)
    booted.run(["kill", "-KILL", pid])
    eventually(lambda: booted.run(main).out.strip() not in {"0", pid}, PATIENCE, "its restart")
    says(f"keeping down {port}", port)
    stranger(2)

    booted.run(["systemctl", "stop", claim])
    becomes(booted, 2, "ethernet")
    says("nothing is claimed; waiting for a claim")
    assert active(booted, unit) == "active"
    booted.run(["systemctl", "stop", unit])
    result = booted.run(["systemctl", "show", "-P", "Result", unit]).out.strip()
    assert (active(booted, unit), result) == ("inactive", "success")
    with wording:
        assert "will not be known" not in journal(), "it may watch who opens a port"
    found = networks.differences(before, view(booted))
    assert found == [], "\n".join(found)


def test_they_are_installed_where_systemd_looks() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    (pattern,) = project["tool"]["setuptools"]["data-files"]["lib/systemd/system"]
    assert sorted(CHECKOUT.glob(pattern)) == sorted(UNITS.iterdir())

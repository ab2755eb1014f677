"""Commands that are printed for copying: whatever a name is, a shell takes it for one word."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import manactl
from manactl.cli.app import App
from manactl.cli.claim import claim
from manactl.cli.confirm import confirm
from manactl.cli.hold import hold
from manactl.cli.recover import recover
from manactl.cli.release import release
from manactl.decide import daemon_words
from manactl.doctor import drivers, others
from manactl.doctor.machine import Function, Module, PciManager
from manactl.escape import command, link
from manactl.netstate import describe
from manactl.netstate.surroundings import Manager
from tests.unit.doctor.fit import FIT
from tests.unit.fakes import address, neighbour, nexthop, route

SRC = Path(manactl.__file__).parent
HOSTILE = [
    "a;id",
    "$(id)",
    "`id`",
    "a'b",
    'a"b',
    "a&b",
    "a|b",
    "*",
    "a\\b",
    "#x",
    "~",
    "a>b",
    "{a,b}",
]
PROGRAMS = (
    "ip|bridge|tc|manactl|systemctl|networkctl|nmcli|sysctl|ethtool|rdma|kill|rm|mv|mkdir|modprobe|"
    "echo|printf|mount|chmod|chown|nsenter|sed|journalctl|devlink"
)
BEFORE_A_VALUE = re.compile(rf"(?:^|[`(:;] ?|&& )(?:{PROGRAMS}) [^`;:=]*$")
# What stands there is a number, a word of ours, or a PCI address with a port.
SAFE = {
    ("act/await_free.py", "acceptance([str(port)])"), ("act/await_free.py", "wait"),
    ("act/file_words.py", "port"), ("act/claim.py", "outcome_words.acceptance([port.label])"),
    ("act/unmanage.py", "self.unmanaged.manager"), ("act/outcome_words.py", "numbers"),
    ("act/outcome_words.py", "again"),  # made by command()
    ("decide/daemon_words.py", "name"), ("decide/kernel_bugs.py", "port.pci"), ("act/residue_words.py", "path"), ("netstate/diff.py", "tree"),
    ("netstate/link_settings.py", "tree"), ("netstate/bridging.py", "vid"),
    ("netstate/bridging.py", "lladdr.hex(':')"), ("cli/explain.py", "number"), ("cli/explain.py", "hint"),
    ("cli/explain.py", "' | '.join(topic.see)"),
}  # fmt: skip


def in_commands(path: Path) -> Iterator[tuple[str, int]]:
    """What is put into a command by an f-string, and not by escape.command()."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
            elif isinstance(part, ast.FormattedValue):
                shown = ast.unparse(part.value)
                if BEFORE_A_VALUE.search(before) and not shown.startswith(
                    ("command(", "self.command(")
                ):
                    yield shown, node.lineno
                before += "X"


@pytest.mark.parametrize(
    "folder", ["act", "cli", "decide", "doctor", "netstate", "render", "journal"]
)
def test_no_name_gets_into_a_command_but_by_the_one_helper(folder: str) -> None:
    found = [
        (str(path.relative_to(SRC)), shown, line)
        for path in sorted((SRC / folder).rglob("*.py"))
        for shown, line in in_commands(path)
        if (str(path.relative_to(SRC)), shown) not in SAFE
    ]
    assert found == []


@pytest.mark.parametrize("name", HOSTILE)
def test_what_removes_an_object_names_its_device_in_one_word(name: str) -> None:
    facts = (
        address("10.0.0.2", 24), route("10.1.0.0", 16, via="10.0.0.9"), neighbour("10.0.0.9"),
        nexthop(7),
    )  # fmt: skip
    for fact in facts:
        names = dict.fromkeys(range(10), name)
        words = shlex.split(describe.command(str(fact.kind), fact.body, names))
        assert words[0] == "ip"
        assert "nexthop" in words or name in words


@pytest.mark.parametrize("name", HOSTILE)
def test_what_doctor_prints_to_be_copied(name: str) -> None:
    manager = Manager("systemd-networkd", None, True, "x", name, 3)
    machine = replace(
        FIT,
        functions=(Function("7870:00:00.0", name, 0, (), False),),
        modules={**FIT.modules, "mana": Module.LOADED},
        managers=(PciManager(name, manager, f"/run/systemd/network/{name}.network"),),
    )
    fixes = [
        line
        for made in (drivers.driver, others.managers)
        for one in made(machine)
        for line in one.fix
    ]
    told = [word for line in fixes for word in shlex.split(line) if name in word]
    assert f"/sys/bus/pci/drivers/{name}/unbind" in told
    assert f"/etc/systemd/network/{name}.network.d" in told
    assert all(command(word) in "\n".join(fixes) for word in told)


@pytest.mark.parametrize("daemon", ["NetworkManager", "wicked", "dhcpcd", "ifupdown", "ConnMan"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_keeps_a_manager_away(daemon: str, name: str) -> None:
    for line in daemon_words.holds(daemon, name):
        if name in line:
            assert any(name in word for word in shlex.split(line, comments=False))


DASHED = ["-h", "--all", "-"]


@pytest.mark.parametrize("name", DASHED)
def test_a_name_that_begins_with_a_dash_is_no_option(name: str) -> None:
    """Of a netdev, a unit or a device; whoever may name one would else give us options."""
    assert command("manactl", "release", names=[name]) == f"manactl release -- {name}"
    assert command("manactl", "release", names=["eth1", name]) == f"manactl release -- eth1 {name}"
    assert command("manactl", "release", names=["eth1"]) == "manactl release eth1"
    assert link(name) == ["dev", name]
    (nmcli,) = daemon_words.holds("NetworkManager", name)
    assert f" ifname {name} " in nmcli
    assert f"dhcpcd --exit -- {name}" in daemon_words.holds("dhcpcd", name)


def test_a_name_that_is_a_keyword_of_ip_is_taken_for_a_netdev() -> None:
    assert (link("up"), link("eth1")) == (["dev", "up"], ["eth1"])


@pytest.mark.parametrize("name", DASHED)
def test_our_own_options_take_such_a_name(name: str) -> None:
    """`claim --raw-qp`, `recover --accept`: what follows is their value, whatever it looks like."""
    for made, option, key in ((claim, "--raw-qp", "words"), (recover, "--accept", "accept")):
        with made.make_context(made.name, [option, name], obj=App()) as ctx:
            assert ctx.params[key] == (name,)
    for made in (release, confirm, hold):
        with made.make_context(made.name, ["--", name], obj=App()) as ctx:
            assert ctx.params["words"] == (name,)


def operands(path: Path) -> Iterator[tuple[str, int]]:
    """What is no word of ours, and is no option's value, among the words of a manactl or ip command."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "command" and node.args):
            continue
        words = [one.value if isinstance(one, ast.Constant) else None for one in node.args]
        if words[0] not in ("manactl", "ip", "dhcpcd", "rdma", "nmcli", "systemctl"):
            continue
        for before, word, one in zip(words, words[1:], node.args[1:], strict=False):
            shown = ast.unparse(one)
            value = str(before or "").startswith("--") or before in ("netns", "exec")
            if word is None and not value and not shown.startswith("*link("):
                yield shown, node.lineno


def test_what_others_have_named_comes_behind_the_options() -> None:
    found = [
        (str(path.relative_to(SRC)), shown, line)
        for path in sorted(SRC.rglob("*.py"))
        for shown, line in operands(path)
        if shown not in {"*words", "*ifname", "port", "*family", "kind", "way"}
        and (path.name, shown) != ("outcome.py", "netdev")  # the value of active_slave
    ]
    assert found == []

"""A port below each kind of master, and what stands on that: commands for `sh`.

`{port}` is the port that is claimed, `{other}` another one. Like networks.py, nothing here knows
manactl; its judge compares.
"""

from __future__ import annotations

FACTS = """
ip -batch - <<'END'
address add 10.50.0.2/24 dev {top}
address add 2001:db8:50::2/64 dev {top} nodad
route add 192.0.2.0/24 via 10.50.0.9 dev {top} {table}
route add 192.0.3.0/24 {table} nexthop via 10.50.0.5 dev {top} nexthop via 10.50.0.6 dev {top}
route add 2001:db8:500::/48 via 2001:db8:50::9 dev {top} {table}
nexthop add id 10 via 10.50.0.20 dev {top}
nexthop add id 11 via 10.50.0.21 dev {top}
nexthop add id 20 group 10,2/11
route add 198.18.0.0/24 nhid 20 {table}
neighbour add 10.50.0.50 lladdr 02:00:00:00:00:50 dev {top} nud permanent
END
"""
QUIET = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad\n"
BOND = """
ip link add bond0 type bond mode active-backup fail_over_mac active miimon 50
for slave in {port} {other}; do
    ip link set $slave down; ip link set $slave master bond0
done
ip link set bond0 up
ip link set {port} up; ip link set {other} up
"""


def _on(top: str, table: str = "") -> str:
    return FACTS.replace("{top}", top).replace("{table}", table)


# Each with the devices to delete at the end, and the kinds of device that the kernel must have.
STACKS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "bond": (
        BOND + "ip link set bond0 type bond active_slave {port}\n" + _on("bond0"),
        ("bond0",),
        ("bond",),
    ),
    "bond, the other slave is active": (
        BOND + "ip link set bond0 type bond active_slave {other}\n" + _on("bond0"),
        ("bond0",),
        ("bond",),
    ),
    "vlan on a bond": (
        BOND
        + "ip link set bond0 type bond active_slave {port}\n"
        + "ip link add link bond0 name v7 type vlan id 7; ip link set v7 up\n"
        + _on("v7"),
        ("v7", "bond0"),
        ("bond", "vlan"),
    ),
    "bridge": (
        "ip link add br0 type bridge forward_delay 0\n"
        "ip link set {port} master br0; ip link set {port} up; ip link set br0 up\n" + _on("br0"),
        ("br0",),
        ("bridge",),
    ),
    "vrf": (
        "ip link add red type vrf table 500; ip link set red up\n"
        "ip link set {port} master red; ip link set {port} up\n" + _on("{port}", "table 500"),
        ("red",),
        ("vrf",),
    ),
    "vlan in a vrf": (
        "ip link add red type vrf table 500; ip link set red up; ip link set {port} up\n"
        "ip link add link {port} name v7 type vlan id 7\n"
        "ip link set v7 master red; ip link set v7 up\n" + _on("v7", "table 500"),
        ("v7", "red"),
        ("vlan", "vrf"),
    ),
    "vlan": (
        "ip link set {port} up; ip link add link {port} name v7 type vlan id 7\n"
        "ip link set v7 up\n" + _on("v7"),
        ("v7",),
        ("vlan",),
    ),
    "macvlan": (
        "ip link set {port} up; ip link add link {port} name m7 type macvlan mode bridge\n"
        "ip link set m7 up\n" + _on("m7"),
        ("m7",),
        ("macvlan",),
    ),
}

# What tests/lab/test_members.py has not.
OF_TWO = ("bond, the other slave is active", "vlan in a vrf", "vlan on a bond")


def script(name: str, port: str, other: str) -> str:
    """The commands; what the kernel refuses ends them with an error."""
    text = STACKS[name][0]
    return "set -e\n" + QUIET + text.replace("{port}", port).replace("{other}", other)


def ending(name: str) -> str:
    """The commands that remove it."""
    return "".join(f"ip link del {one}\n" for one in STACKS[name][1])

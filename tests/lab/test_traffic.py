"""Guards see the traffic that dies with a port, wherever it hides, on the real kernels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.lab.scene import manactl
from tests.lab.site import on_oldest_and_newest
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.unit import schema
from tests.unit.wording import wording

pytestmark = on_oldest_and_newest()

PEER = """
set -e
ip netns add peer; ip link set {far} netns peer
ip -n peer link set lo up; ip -n peer link set {far} up; ip link set {port} up
ip -n peer addr add 10.1.0.9/24 dev {far}; ip -n peer addr add 2001:db8:1::9/64 dev {far} nodad
ip addr add 10.1.0.4/24 dev {port}; ip addr add 2001:db8:1::4/64 dev {port} nodad
ip link add lan0 type dummy; ip addr add 10.0.0.4/24 dev lan0; ip link set lan0 up
"""


def peer(vm: Vm) -> tuple[str, str]:
    """A port that is up with addresses, and the other one as its peer; a netdev beside them."""
    port, far = vm.netdevs[1], vm.netdevs[2]
    vm.run(PEER.format(port=port, far=far))
    return port, far


def refusals(vm: Vm, *words: str, env: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The refusals of a dry run by code; none when it would claim. The plan is under "plan"."""
    result = manactl(
        vm, "claim", "--json", "--dry-run", *words, prefix=("env", *env) if env else ()
    )
    document: dict[str, Any] = json.loads(result.out)
    schema.strict(document)
    assert result.rc in (0, 3), result.out + result.err
    found = {one["fact"]: one["value"] for one in document.get("evidence", ())}
    return {**found, "plan": document.get("plan", document)}  # granted, it is the plan itself


# --- tunnels ----------------------------------------------------------------------------------

# Each kind with what makes it, and whether it has the port as its device.
TUNNELS = {
    "vx0": ("vxlan id 42 dev {port} remote 10.1.0.9 dstport 4789", True),
    "vx1": ("vxlan id 43 remote 10.1.0.9 dstport 4790", False),
    "vx2": ("vxlan id 44 dstport 4791", False),
    "gre1": ("gre remote 10.1.0.9 local 10.1.0.4 dev {port}", True),
    "gre2": ("gre remote 10.1.0.9 key 7", False),
    "gretap1": ("gretap remote 10.1.0.9", False),
    "g6": ("ip6gre remote 2001:db8:1::9 local 2001:db8:1::4", False),
    "gen1": ("geneve id 7 remote 10.1.0.9", False),
    "ipip1": ("ipip remote 10.1.0.9", False),
    "sit1": ("sit remote 10.1.0.9", False),
    "six1": ("ip6tnl mode any remote 2001:db8:1::9 local 2001:db8:1::4", False),
    "x1": ("xfrm dev {port} if_id 42", True),
    "x2": ("xfrm dev lo if_id 43", False),
    "wg1": ("wireguard", False),
}
AWAY = {
    "gre9": "gre remote 10.0.0.9 key 9",
    "gen9": "geneve id 9 remote 10.0.0.9",
    "vx9": "vxlan id 9 remote 10.0.0.9 dstport 4799",
    "wg9": "wireguard",
}
KEYED = """
set -e
bridge fdb append 00:00:00:00:00:00 dev vx2 dst 10.1.0.9
key=$(wg genkey)
for one in 1:10.1.0.9 9:10.0.0.9; do
    printf %s $key >/tmp/key; wg set wg${{one%%:*}} private-key /tmp/key
    wg set wg${{one%%:*}} peer $(wg genkey | wg pubkey) endpoint ${{one#*:}}:51820 allowed-ips 0.0.0.0/0
done
ip xfrm state add src 10.1.0.4 dst 10.1.0.9 proto esp spi 5 if_id 43 mode tunnel \\
    enc 'ecb(cipher_null)' ''
modprobe -a l2tp_netlink l2tp_eth
ip l2tp add tunnel remote 10.1.0.9 local 10.1.0.4 tunnel_id 1 peer_tunnel_id 1 encap udp \\
    udp_sport 1701 udp_dport 1701
ip l2tp add session tunnel_id 1 session_id 1 peer_session_id 1 name l2
n=10
for one in {names} l2; do
    n=$((n+1)); ip link set $one up; ip addr add 172.16.$n.1/24 dev $one
    ip route add default dev $one table $n
done
"""


def test_tunnels_are_followed_to_the_port_by_their_endpoints(vm: Vm) -> None:
    """Of every kind, made with the port as device and without; and none that goes elsewhere."""
    port, _ = peer(vm)
    try:
        made = {name: how for name, (how, _) in TUNNELS.items()} | AWAY
        for name, how in made.items():
            vm.run(f"ip link add {name} type {how.format(port=port)}")
        vm.run(KEYED.format(names=" ".join(made)))
        found = refusals(vm, "--raw-qp", port)
        routes = " ".join(one["value"] for one in found["default-route"]["evidence"])
        named = {word for word in routes.split() if word in made or word == "l2"}
        assert named == {*TUNNELS, "l2"}
        uppers = [one["value"] for one in found["upper"]["evidence"]]
        assert {one.split()[0] for one in uppers} == {n for n, (_, at) in TUNNELS.items() if at}
        assert any(one.startswith("vx0 (vxlan") and "10.1.0.9" in one for one in uppers)
        stops = "\n".join(found["plan"]["stops"])
        for name in (*TUNNELS, "l2"):
            assert f"{name} (" in stops
        with wording:
            assert f"vx0 (vxlan, whose packets to 10.1.0.9 leave by {port})" in uppers
            for name in (*TUNNELS, "l2"):
                assert f"with it that of {name} (" in stops
            assert f"wg1 (wireguard, whose packets to 10.1.0.9 leave by {port})" in stops
        session = ["SSH_CONNECTION=172.16.99.9 5555 172.16.24.1 22"]  # of wg1
        ssh = refusals(vm, "--raw-qp", port, env=session)["ssh-session"]
        assert all(word in ssh["message"] for word in ("wg1 (wireguard", "10.1.0.9"))
        with wording:
            said = f"on wg1 (wireguard, whose packets to 10.1.0.9 leave by {port})"
            assert said in ssh["message"]
    finally:
        vm.run(
            "ip l2tp del session tunnel_id 1 session_id 1; ip l2tp del tunnel tunnel_id 1; "
            "ip xfrm state flush; for n in $(seq 11 30); do ip route flush table $n; done; "
            "for one in $(cd /sys/class/net; ls -d *); do ip link del $one; done; "
            "rmmod l2tp_eth l2tp_netlink l2tp_core wireguard xfrm_interface ip6_gre ip_gre gre "
            "geneve ipip sit ip6_tunnel vxlan",
            check=False,
        )


def test_a_connection_through_a_tunnel_dies_with_the_port(vm: Vm) -> None:
    port, far = peer(vm)
    vxlan = "type vxlan id 42 dstport 4789 remote"
    vm.run(
        f"set -e; ip link add vx0 {vxlan} 10.1.0.9; ip addr add 172.16.0.1/24 dev vx0; "
        f"ip -n peer link add vx0 {vxlan} 10.1.0.4; ip -n peer addr add 172.16.0.9/24 dev vx0; "
        "ip link set vx0 up; ip -n peer link set vx0 up"
    )
    with user(vm, "tcp", "serve", "172.16.0.9", "7000", netns="peer") as server:
        server.wait_for("listening")
        with user(vm, "tcp", "probe", "172.16.0.9", "7000", "2000") as prober:
            prober.wait_for("connected")
            found = refusals(vm, "--raw-qp", port)
            assert "172.16.0.9:7000" in found["tcp-established"]["message"]
            assert far not in found["plan"]["stops"]


# A VPN outside of the kernel: a TUN device, and a UDP socket, connected where there is a peer.
VPN = """
import fcntl, os, socket, struct, sys, time
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH14x", sys.argv[1].encode(), 0x1001))  # TUNSETIFF
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[2] == "any":
    udp.bind(("", 1194))
else:
    udp.connect((sys.argv[2], 1194))
print("ready", flush=True); time.sleep(600)
"""


def test_a_vpn_outside_of_the_kernel_is_a_tunnel(vm: Vm) -> None:
    """By its program's sockets; one that is not connected may send to anybody."""
    port, _ = peer(vm)
    vm.run("modprobe tun; ip link add lan9 type dummy; ip link set lan9 up")
    vm.run("ip addr add 10.0.9.4/24 dev lan9")
    programs = []
    try:
        for number, (name, to) in enumerate(
            (("tun0", "10.1.0.9"), ("tun1", "10.0.9.9"), ("tun2", "any")), 1
        ):
            programs.append(vm.spawn(["python3", "-c", VPN, name, to]))
            programs[-1].read_until("ready", 60)
            vm.run(
                f"ip link set {name} up; ip addr add 172.16.{number}.1/24 dev {name}; "
                f"ip route add default dev {name} table {number}"
            )
        session = ["SSH_CONNECTION=172.16.1.9 5555 172.16.1.1 22"]
        found = refusals(vm, "--raw-qp", port, env=session)
        ssh = found["ssh-session"]["message"]
        assert all(word in ssh for word in ("tun0", "python3", "10.1.0.9"))
        with wording:
            assert f"python3, whose packets to 10.1.0.9 leave by {port}" in ssh
        routes = " ".join(one["value"] for one in found["default-route"]["evidence"])
        assert ("tun0" in routes, "tun1" in routes, "tun2" in routes) == (True, False, True)
        assert any("tun2" in stop and "python3" in stop for stop in found["plan"]["stops"])
        with wording:
            stops = "\n".join(found["plan"]["stops"])
            assert "python3, which may send to anybody" in stops
        assert "upper" not in found
        # Where nothing is behind the port, nobody's peer is.
        vm.run(f"ip addr flush dev {port}; ip -6 route flush dev {port}")
        assert "default-route" not in refusals(vm, "--raw-qp", port)
    finally:
        for program in programs:
            program.kill()
        vm.run("for n in 1 2 3; do ip route flush table $n; done; rmmod tun", check=False)


IPSEC = """
set -e
modprobe -a xfrm_user esp4 authenc ecb crypto_null
ip addr add 10.2.0.4/24 dev lan0; ip link add lan1 type dummy; ip link set lan1 up
ip addr add 10.6.0.4/24 dev lan1; ip route add 10.3.0.0/16 via 10.6.0.9 dev lan1
ip xfrm state add src 10.1.0.4 dst 10.1.0.9 proto esp spi 5 mode tunnel enc 'ecb(cipher_null)' ''
ip xfrm policy add src 10.2.0.0/24 dst 10.3.0.0/16 dir out priority 9 \\
    tmpl src 10.1.0.4 dst 10.1.0.9 proto esp mode tunnel
ip xfrm policy add src 10.2.0.0/24 dst 10.3.7.0/24 dir out priority 5
ip xfrm policy add src 10.3.0.0/16 dst 10.2.0.0/24 dir in priority 9 \\
    tmpl src 10.1.0.9 dst 10.1.0.4 proto esp mode tunnel
"""


def test_what_ipsec_policies_put_into_a_tunnel_dies_with_the_port(vm: Vm) -> None:
    """The route of the inner addresses leads elsewhere."""
    port, _ = peer(vm)
    try:
        vm.run(IPSEC)
        assert "dev lan1" in vm.run("ip route get 10.3.0.9 from 10.2.0.4").out
        one = refusals(vm, "--raw-qp", port)["forwarding"]
        assert [piece["value"] for piece in one["evidence"]] == [
            {
                "source": "10.2.0.0/24",
                "destination": "10.3.0.0/16",
                "endpoint": "10.1.0.9",
                "netns": None,
            }
        ]
        for client, over in (("10.3.0.9", True), ("10.3.7.9", False), ("10.9.0.9", False)):
            session = [f"SSH_CONNECTION={client} 5555 10.2.0.4 22"]
            assert ("ssh-session" in refusals(vm, "--raw-qp", port, env=session)) is over, client
        vm.run("ip xfrm policy flush")
        assert "forwarding" not in refusals(vm, "--raw-qp", port)
        vm.run(
            f"modprobe macvlan; ip netns add pod; ip link add link {port} name mv0 type macvlan; "
            "ip link set mv0 netns pod; ip -n pod link set mv0 up; "
            "ip -n pod addr add 10.1.0.44/24 dev mv0; "
            "ip -n pod xfrm policy add src 10.7.0.0/24 dst 10.8.0.0/24 dir out "
            "tmpl src 10.1.0.44 dst 10.1.0.9 proto esp mode tunnel"
        )
        (piece,) = refusals(vm, "--raw-qp", port)["forwarding"]["evidence"]
        assert piece["value"] == {"source": "10.7.0.0/24", "destination": "10.8.0.0/24",
                                  "endpoint": "10.1.0.9", "netns": "pod"}  # fmt: skip
    finally:
        vm.run("ip netns del pod; ip xfrm policy flush; ip xfrm state flush", check=False)


# --- remote logins, and what is not TCP -------------------------------------------------------

SOCKETS = """
import socket, sys, time
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("10.1.0.4", 4789)); udp.connect(("10.1.0.9", 4789))
web = socket.create_server(("10.1.0.4", 443))
dns = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); dns.bind(("2001:db8:1::4", 53))
every = socket.create_server(("", 8080))
sctp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
sctp.connect(("10.1.0.9", 5000))
waits = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
waits.bind(("10.1.0.4", 36412)); waits.listen()
gre = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47); gre.connect(("10.1.0.9", 0))
ospf = socket.socket(socket.AF_INET, socket.SOCK_RAW, 89); ospf.bind(("10.1.0.4", 0))
print("ready", flush=True); time.sleep(600)
"""
FAR_SCTP = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
server.bind(("10.1.0.9", 5000)); server.listen(); print("ready", flush=True)
server.accept()[0].recv(1)
"""
MOSH = """
import socket, time
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("10.1.0.4", 60001))
print("ready", flush=True); time.sleep(600)
"""


def test_logins_and_sockets_of_others_refuse_whoever_asks(vm: Vm) -> None:
    port, _ = peer(vm)
    vm.run(
        "modprobe sctp; cp $(readlink -f /usr/bin/python3) /tmp/sshd; cp /tmp/sshd /tmp/mosh-server"
    )
    guest = "/manactl/tests/lab/guest/tcp.py"
    programs = []

    def start(*argv: str, said: str = "ready") -> None:
        programs.append(vm.spawn(list(argv)))
        programs[-1].read_until(said, 60)

    try:
        start("/tmp/sshd", guest, "serve", "10.1.0.4", "22", said="listening")
        probe = ("python3", guest, "probe", "10.1.0.4", "22", "2000")
        start("ip", "netns", "exec", "peer", *probe, said="connected")
        start("ip", "netns", "exec", "peer", "python3", "-c", FAR_SCTP)
        start("python3", "-c", SOCKETS)
        start("/tmp/mosh-server", "-c", MOSH)
        found = refusals(vm, "--raw-qp", port, "--allow", "tcp-established")
        login = found["ssh-session"]
        assert "10.1.0.4:22 - 10.1.0.9:" in login["message"]
        assert all(word in login["message"] for word in ("mosh-server", "60001"))
        with wording:
            assert "mosh-server on UDP port 60001" in login["message"]
        assert not login["waivable"]
        others = {one["value"]["protocol"]: one["value"] for one in found["sockets"]["evidence"]}
        assert found["sockets"]["waivable"]
        assert others["udp"]["peer"] == "10.1.0.9 4789"
        assert others["sctp"]["peer"] == "10.1.0.9 5000"
        assert (others["raw"]["local"], others["raw"]["peer"]) == ("10.1.0.4 47", "10.1.0.9 0")
        assert [one["comm"] for one in others["sctp"]["processes"]] == ["python3"]
        listeners = {(one["protocol"], one["address"], one["port"]): one["processes"][0]["comm"]
                     for one in found["plan"]["listeners"]}  # fmt: skip
        assert listeners == {
            ("tcp", "10.1.0.4", 22): "sshd", ("tcp", "10.1.0.4", 443): "python3",
            ("udp", "2001:db8:1::4", 53): "python3", ("udp", "10.1.0.4", 60001): "mosh-server",
            ("sctp", "10.1.0.4", 36412): "python3", ("raw", "10.1.0.4", 89): "python3",
        }  # fmt: skip
        assert any("tcp 10.1.0.4:443 (pid" in stop for stop in found["plan"]["stops"])
        with wording:
            stops = "\n".join(found["plan"]["stops"])
            assert "listening on it: tcp 10.1.0.4:443 (pid" in stops
    finally:
        for program in programs:
            program.kill()


def test_a_session_over_a_link_local_address_is_told_by_its_zone(vm: Vm) -> None:
    port, _ = peer(vm)
    vm.run(f"ip link add link {port} name v7 type vlan id 7; ip link set v7 up")
    shown = vm.run(f"ip -6 -o addr show dev {port} scope link").out
    mine = shown.split()[3].partition("/")[0]
    vlan = vm.run("cat /sys/class/net/v7/ifindex").out.strip()
    for zone, over in ((port, True), (vlan, True), ("lan0", False)):
        value = f"SSH_CONNECTION=fe80::9%{zone} 5555 {mine}%{zone} 22"
        assert ("ssh-session" in refusals(vm, "--raw-qp", port, env=[value])) is over, zone


def test_a_session_in_a_vrf_and_one_that_logind_has(vm: Vm) -> None:
    """The address of the session is the VRF's own, and the way to the client is in its table."""
    port, _ = peer(vm)
    vm.run(
        "modprobe vrf; ip link add red type vrf table 77; ip link set red up; "
        # The kernel adds this rule with the first VRF alone, and another test may have removed it.
        "ip rule show | grep -q l3mdev || ip rule add l3mdev pref 1000; "
        f"ip link set {port} master red; ip addr add 10.5.0.1/32 dev red; "
        f"ip route add 10.99.0.0/16 via 10.1.0.9 dev {port} table 77; "
        "ip route add 10.99.0.0/16 via 10.0.0.9 dev lan0"
    )
    sessions = "/run/systemd/sessions"
    try:
        for server, over in (("10.5.0.1", True), ("10.0.0.4", False)):
            value = [f"SSH_CONNECTION=10.99.0.9 5555 {server} 22"]
            assert ("ssh-session" in refusals(vm, "--raw-qp", port, env=value)) is over, server
        vm.run(f"ip link set {port} nomaster; ip link del red; ip route del 10.99.0.0/16")
        vm.run(f"ip addr replace 10.1.0.4/24 dev {port}; mkdir -p {sessions}")
        for number, (host, over) in enumerate((("10.1.0.9", True), ("10.0.0.9", False)), 1):
            told = f"ACTIVE=1\nSTATE=active\nREMOTE=1\nREMOTE_HOST={host}\nTYPE=tty\n"
            vm.run(f"rm -f {sessions}/*; cat > {sessions}/{number}", input=told)
            found = refusals(vm, "--raw-qp", port)
            assert ("ssh-session" in found) is over, host
            if over:
                login = found["ssh-session"]["message"]
                assert "10.1.0.9" in login
                with wording:
                    assert f"10.1.0.9 (logind session {number})" in login
    finally:
        vm.run(f"rm -rf {sessions}; ip link del red; ip rule del pref 1000; "
               "ip -6 rule del pref 1000; rmmod vrf", check=False)  # fmt: skip


# --- what an upper loses ------------------------------------------------------------------------

POD = """
set -e
modprobe -a macvlan ipvlan macsec ip_gre vxlan 8021q
ip link set {port} up; ip addr add 10.1.0.4/24 dev {port}
ip link add lan0 type dummy; ip addr add 10.0.0.4/24 dev lan0; ip link set lan0 up
ip netns add pod
for n in 20 21; do ip link add link {port} name v$n type vlan id $n; ip link set v$n up; done
ip link add mv0 link {port} type macvlan mode bridge
ip link add ip0 link v21 type ipvlan
ip link add link v20 name ms0 type macsec
ip link add link {port} name lb0 type vlan id 30 loose_binding on
ip link add gr0 type gre remote 10.1.0.9 local 10.1.0.4 dev {port}
ip link add vx0 type vxlan id 4 dev {port} remote 10.1.0.9 dstport 4789
ip link add link {port} name vl0 type vlan id 31
n=0
for one in mv0 ip0 ms0 lb0 gr0 vx0 vl0; do
    n=$((n+1)); ip link set $one netns pod; ip -n pod link set $one up
    ip -n pod addr add 10.9.$n.1/24 dev $one; ip -n pod addr add fd09:$n::1/64 dev $one nodad
    ip -n pod route add 10.10.$n.0/24 via 10.9.$n.9 dev $one
    ip -n pod -6 route add fd10:$n::/64 via fd09:$n::9 dev $one
done
"""
KEPT = """
for what in addr "-4 route" "-6 route"; do
    ip {where} -o $what | sed -E 's/ (linkdown|dead|tentative)//g; s/valid_lft.*//; s/^[0-9]+: //'
done
"""


def kept(vm: Vm, where: str) -> set[str]:
    """Addresses and routes, without the states that pass."""
    return {" ".join(line.split()) for line in vm.run(KEPT.format(where=where)).out.splitlines()}


def barred(vm: Vm, port: str) -> str:
    """Why `--allow upper` has no effect; empty when it has."""
    ran = manactl(vm, "claim", "--dry-run", "--raw-qp", port, "--allow", "upper")
    lines = [line for line in ran.err.splitlines() if line.strip().startswith("--allow upper")]
    with wording:
        assert all("--allow upper has no effect" in line for line in lines)
    return "".join(lines)


def test_what_an_upper_in_a_pod_loses_decides_whether_it_can_be_waived(vm: Vm) -> None:
    port = vm.netdevs[1]
    try:
        _loses_in_a_pod(vm, port)
    finally:  # gre0 and the like stay as long as the module
        vm.run("ip netns del pod; for m in ip_gre gre; do rmmod $m; done", check=False)


def _loses_in_a_pod(vm: Vm, port: str) -> None:
    vm.run(POD.format(port=port))
    before = kept(vm, "-n pod")
    why_not = barred(vm, port)
    assert "vl0" in why_not
    with wording:
        assert "could not restore vl0 (vlan) in the network namespace pod" in why_not
    assert not any(name in why_not for name in ("mv0", "ip0", "ms0", "lb0", "gr0", "vx0"))

    def running() -> bool:
        shown = vm.run(
            "for n in mv0 ip0 ms0 lb0 vl0; do ip -n pod -o link show $n; done", check=False
        )
        return "LOWER_UP" in shown.out and "NO-CARRIER" not in shown.out

    eventually(running)
    vm.run(f"ip link set {port} down; ip link set {port} up")
    eventually(running)
    lost = {word for line in before - kept(vm, "-n pod") for word in line.split()}
    assert {name for name in ("mv0", "ip0", "ms0", "lb0", "gr0", "vx0", "vl0") if name in lost} == {
        "vl0"
    }
    vm.run("ip -n pod link del vl0")
    assert barred(vm, port) == ""
    vm.run("ip -n pod nexthop add id 5 via 10.9.1.9 dev mv0")
    why_not = barred(vm, port)
    assert "mv0" in why_not
    with wording:
        assert "could not restore mv0 (macvlan)" in why_not
    vm.run("ip -n pod nexthop flush")  # 6.x drops them with the carrier, 7.3 was not seen to
    ran = manactl(vm, "claim", "--raw-qp", port, "--allow", "upper")
    assert ran.rc == 0, ran.err
    before = kept(vm, "-n pod")
    ran = manactl(vm, "release")
    assert ran.rc == 0, ran.err
    assert kept(vm, "-n pod") == before


OVS = """
import socket, struct, sys
sys.path.insert(0, "/manactl/src")
from manactl.wire import genetlink as genl
from manactl.wire.attrs import attr_str, attr_u32
from manactl.wire.netlink import NetlinkSocket
NEW, DEL = 1, 2
def head(command, version, index):
    return struct.pack("=BBxxi", command, version, index)
with NetlinkSocket(16, strict=False) as sock:
    def ask(family, body):
        sock.request(genl.family_id(sock.request(16, 0, genl.family(family))[0].body), 0, body)
    if len(sys.argv) > 1:
        ask("ovs_datapath", head(NEW, 2, 0) + attr_str(1, "ovs0") + attr_u32(2, 0))
        vport = attr_u32(2, 1) + attr_str(3, sys.argv[1]) + attr_u32(5, 0)
        ask("ovs_vport", head(NEW, 1, socket.if_nametoindex("ovs0")) + vport)
    else:
        ask("ovs_datapath", head(DEL, 2, socket.if_nametoindex("ovs0")))
"""


def test_a_team_and_open_vswitch_lose_nothing(vm: Vm) -> None:
    first, second = vm.netdevs[1], vm.netdevs[2]
    vm.run(
        "set -e; modprobe -a team team_mode_roundrobin openvswitch; "
        f"ip link add t0 type team; ip link set {first} master t0; ip link set {first} up; "
        "ip link set t0 up; ip addr add 10.9.0.1/24 dev t0; ip addr add fd09::1/64 dev t0 nodad; "
        "ip route add 10.10.0.0/24 via 10.9.0.9; "
        "ip link add lan0 type dummy; ip addr add 10.0.0.4/24 dev lan0; ip link set lan0 up"
    )
    vm.run(["python3", "-c", OVS, second])
    try:
        vm.run(f"ip link set {second} up; ip link set ovs0 up; ip addr add 10.9.1.1/24 dev ovs0")
        for port, upper in ((first, "t0"), (second, "ovs0")):
            eventually(lambda: "tentative" not in vm.run("ip -6 addr").out)
            before = kept(vm, "")
            for way in ("down", "up"):
                vm.run(f"ip link set {port} {way}")
            eventually(lambda before=before: kept(vm, "") == before)
            ran = manactl(vm, "claim", "--raw-qp", port, "--allow", "upper")
            assert ran.rc == 0, ran.err
            ran = manactl(vm, "release")
            assert ran.rc == 0, ran.err
            eventually(lambda before=before: kept(vm, "") == before)
            assert f"master {upper}" in vm.run(f"ip link show {port}").out
    finally:
        vm.run(["python3", "-c", OVS], check=False)
        vm.run("ip link del t0; rmmod openvswitch", check=False)


# --- forwarded for others, Azure's addresses, redirected ----------------------------------------

CONTAINER = """
set -e
modprobe -a nf_tables nft_masq nft_chain_nat nft_ct nf_conntrack_netlink veth
ip netns add c1; ip link add veth0 type veth peer name veth1 netns c1
ip link set veth0 up; ip addr add 172.17.0.1/16 dev veth0; ip addr add fd17::1/64 dev veth0 nodad
ip -n c1 link set veth1 up; ip -n c1 addr add 172.17.0.2/16 dev veth1
ip -n c1 addr add fd17::2/64 dev veth1 nodad
ip -n c1 route add default via 172.17.0.1; ip -n c1 -6 route add default via fd17::1
ip -n peer -6 route add fd17::/64 via 2001:db8:1::4
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft -f - <<END
table ip nat {{ chain post {{ type nat hook postrouting priority 100; oifname "{port}" masquerade; }}; }}
table ip6 track {{ chain through {{ type filter hook forward priority 0; ct state established accept; }}; }}
END
"""


# IPCTNL_MSG_CT_DELETE without a tuple: all entries, which would be there for days.
FLUSH = """
import sys
sys.path.insert(0, "/manactl/src")
from manactl.wire.netlink import NetlinkSocket
with NetlinkSocket(12, strict=False) as sock:
    sock.request((1 << 8) | 2, 0, bytes(4))
"""


def test_connections_of_containers_are_counted(vm: Vm) -> None:
    port, _ = peer(vm)
    programs = []
    guest = "/manactl/tests/lab/guest/tcp.py"

    def start(netns: str, *argv: str, said: str) -> None:
        programs.append(vm.spawn(["ip", "netns", "exec", netns, "python3", guest, *argv]))
        programs[-1].read_until(said, 60)

    try:
        vm.run(CONTAINER.format(port=port))
        for address in ("10.1.0.9", "2001:db8:1::9"):
            start("peer", "serve", address, "7000", said="listening")
            start("c1", "probe", address, "7000", "2000", said="connected")
        found = refusals(vm, "--raw-qp", port)["forwarding"]
        assert found["waivable"]
        flows = {one["value"]["source"]: one["value"] for one in found["evidence"]}
        assert {source: one["connections"] for source, one in flows.items()} == {
            "172.17.0.2": 1, "fd17::2": 1,
        }  # fmt: skip
        assert flows["172.17.0.2"]["example"] == "tcp to 10.1.0.9:7000"
        assert "forwarding" not in refusals(vm, "--raw-qp", port, "--allow", "forwarding")
        unprivileged = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-all")
        ran = manactl(vm, "claim", "--dry-run", "--raw-qp", port, prefix=unprivileged)
        assert ran.rc == 3, ran.out + ran.err
        with wording:
            assert "connections that are forwarded for others could not be read" in ran.err
    finally:
        for program in programs:
            program.kill()
        vm.run(["python3", "-c", FLUSH], check=False)
        vm.run(
            "nft flush ruleset; sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0; "
            "ip netns del c1",
            check=False,
        )


# Our own connection to a service's address, which is translated on the way out; and whoever passes
# logins on to an sshd that hears of nobody but this host.
SENT_ON = """
set -e
modprobe -a nf_tables nft_nat nft_chain_nat nf_conntrack_netlink
ip route add 10.96.0.0/16 via 10.0.0.9; ip -n peer route add 10.0.0.0/24 via 10.1.0.4
nft -f - <<END
table ip nat {{ chain out {{ type nat hook output priority -100; ip daddr 10.96.0.1 dnat to 10.1.0.9; }}; }}
END
cp $(readlink -f /usr/bin/python3) /tmp/sshd; cp /tmp/sshd /tmp/stunnel
"""
PROXY = """
import socket, time
server = socket.create_server(("10.1.0.4", 443)); print("ready", flush=True)
far, _ = server.accept()
near = socket.create_connection(("127.0.0.1", 22)); print("connected", flush=True)
time.sleep(600)
"""


def test_connections_that_go_elsewhere_and_logins_that_are_passed_on(vm: Vm) -> None:
    port, _ = peer(vm)
    guest = "/manactl/tests/lab/guest/tcp.py"
    programs = []

    def start(*argv: str, said: str) -> Any:
        programs.append(vm.spawn(list(argv)))
        programs[-1].read_until(said, 60)
        return programs[-1]

    try:
        vm.run(SENT_ON.format(port=port))
        assert "tcp-established" not in refusals(vm, "--raw-qp", port)
        inside = ("ip", "netns", "exec", "peer")
        start(*inside, "python3", guest, "serve", "10.1.0.9", "7000", said="listening")
        start("python3", guest, "probe", "10.96.0.1", "7000", "2000", said="connected")
        found = refusals(vm, "--raw-qp", port)
        assert "10.96.0.1:7000" in found["tcp-established"]["message"]
        assert "ssh-session" not in found
        start("/tmp/sshd", guest, "serve", "127.0.0.1", "22", said="listening")
        proxy = start("/tmp/stunnel", "-c", PROXY, said="ready")
        start(*inside, "python3", guest, "probe", "10.1.0.4", "443", "2000", said="")
        proxy.read_until("connected", 60)
        env = ["SSH_CONNECTION=127.0.0.1 5555 127.0.0.1 22"]
        login = refusals(vm, "--raw-qp", port, env=env)["ssh-session"]
        with wording:
            assert "the SSH session of this command runs over it: 127.0.0.1" in login["message"]
        assert "stunnel" in login["message"]
        assert "stunnel" in refusals(vm, "--raw-qp", port)["ssh-session"]["message"]
    finally:
        for program in programs:
            program.kill()
        vm.run(["python3", "-c", FLUSH], check=False)
        vm.run("nft flush ruleset; ip route del 10.96.0.0/16", check=False)


NFT = """table netdev away {{
chain c_fwd {{ type filter hook ingress device lan0 priority 0; udp dport 9 fwd to {port}; }}
chain c_dup {{ type filter hook ingress device lan0 priority 1; dup to {port}; }}
chain c_other {{ type filter hook ingress device lan0 priority 2; udp dport 9 fwd to lan0; }}
}}"""


def test_azures_addresses_and_what_others_send_by_the_port(vm: Vm) -> None:
    port, _ = peer(vm)
    try:
        vm.run(f"ip route add 169.254.169.254/32 via 10.1.0.1 dev {port}")
        assert "169.254.169.254" in refusals(vm, "--raw-qp", port)["azure-fabric"]["message"]
        vm.run(
            "ip route add 169.254.169.254/32 via 10.0.0.1 dev lan0 metric 9; "
            "modprobe -a sch_ingress cls_matchall act_mirred configfs netconsole; "
            "tc qdisc add dev lan0 clsact; "
            f"tc filter add dev lan0 egress matchall action mirred egress redirect dev {port}; "
            "mount -t configfs none /sys/kernel/config; t=/sys/kernel/config/netconsole/t; mkdir $t; "
            f"echo {port} >$t/dev_name; echo 10.1.0.4 >$t/local_ip; echo 10.1.0.9 >$t/remote_ip; "
            "echo 02:15:5d:00:00:03 >$t/remote_mac; echo 1 >$t/enabled"
        )
        rules = NFT.format(port=port)
        vm.run(
            f"modprobe -a nf_tables nft_fwd_netdev nft_dup_netdev && nft -f - <<END\n{rules}\nEND"
        )
        found = refusals(vm, "--raw-qp", port)
        assert "azure-fabric" not in found
        notes, stops = found["plan"]["notes"], found["plan"]["stops"]
        assert any("169.254.169.254" in note and "lan0" in note for note in notes)
        assert any("lan0" in stop and port in stop for stop in stops)
        chains = [stop for stop in stops if " c_" in stop]
        assert [
            any(name in stop and port in stop for stop in chains)
            for name in ("netdev away c_fwd", "netdev away c_dup")
        ] == [True, True]
        assert len(chains) == 2
        with wording:
            assert any("169.254.169.254 leave by lan0" in note for note in notes)
            assert f"packets of lan0 that tc filters send by {port}" in stops
            assert f"kernel messages that are sent by {port} (netconsole)" in stops
            for chain in ("netdev away c_fwd", "netdev away c_dup"):
                assert f"packets that the nftables chain {chain} sends by {port}" in stops
    finally:
        vm.run("nft flush ruleset; t=/sys/kernel/config/netconsole/t; echo 0 >$t/enabled; rmdir $t; "
               "umount /sys/kernel/config; rmmod netconsole; tc qdisc del dev lan0 clsact",
               check=False)  # fmt: skip

"""The driver is bound again under a claim: what stood on the port was destroyed with its netdev, and
release makes all of it again, on kernels with every kind of upper."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import networks
from tests.lab.site import Run, Site, on_oldest_and_newest, site
from tests.lab.users import eventually
from tests.lab.vm import Vm
from tests.unit.wording import wording

pytestmark = on_oldest_and_newest()

DRIVER = "/sys/bus/pci/drivers/mana"
MODULES = "8021q macvlan macvtap ipvlan ipvtap macsec vxlan bonding bridge vrf"
STACK = """
for module in {modules}; do modprobe $module; done
ip link set {dev} mtu 1400 alias 'to the lab' txqueuelen 555
ip link add link {dev} name v7 type vlan id 7 egress-qos-map 1:3 ingress-qos-map 2:4 reorder_hdr off
ip link add link v7 name v8 type vlan id 8 protocol 802.1ad
ip link add link {dev} name v9 address 02:00:00:00:00:99 type vlan id 9
ip link add link {dev} name m1 type macvlan mode source
ip link set m1 type macvlan macaddr add 02:00:00:00:00:77
ip link add link {dev} name m2 type macvtap mode private
ip link add link v9 name i1 type ipvlan mode l3s
ip link add link v9 name i2 type ipvtap mode l3s vepa
ip link add link {dev} name ms0 type macsec port 11 encrypt on cipher gcm-aes-256 icvlen 16
ip link add vx0 type vxlan id 42 group 239.1.1.1 dev {dev} dstport 4789 ttl 9
ip link add red type vrf table 500; ip link set red up; ip link set v7 master red
ip link add br0 type bridge forward_delay 0; ip link set br0 up; ip link set m2 master br0
bridge link set dev m2 cost 77 hairpin on learning off
ip link set br0 type bridge vlan_filtering 1
bridge vlan add dev m2 vid 100 pvid untagged; bridge vlan add dev m2 vid 200-202
bridge vlan del dev m2 vid 1; ip token set ::77 dev v9
bridge fdb add 02:aa:00:00:00:01 dev m2 master static vlan 100
bridge mdb add dev br0 port m2 grp 239.1.1.1 permanent vid 100
ip link add bo0 type bond mode active-backup miimon 100
ip link set v8 down; ip link set v8 master bo0; ip link set bo0 up
ip link add link bo0 name b6 type vlan id 6
ip link set v7 mtu 1300; ip link set m1 alias 'by source'; ip link property add dev v9 altname nine
ip link set v9 txqueuelen 99
for one in v7 v8 v9 m1 i1 vx0 b6; do ip link set $one up; done
tc qdisc add dev {dev} clsact
tc filter add dev {dev} ingress pref 10 protocol ip flower dst_ip 10.9.0.0/16 skip_hw action drop
tc filter add dev {dev} egress pref 5 protocol ip u32 match ip dst 10.8.0.0/16 action ok
tc qdisc add dev v9 root handle 7: htb default 20
tc class add dev v9 parent 7: classid 7:1 htb rate 100mbit
tc class add dev v9 parent 7:1 classid 7:20 htb rate 10mbit ceil 50mbit
tc qdisc add dev v9 parent 7:20 handle 70: fq_codel limit 99
tc filter add dev v9 parent 7: pref 3 protocol ip u32 match ip sport 22 0xffff flowid 7:20
echo 2 > /proc/sys/net/ipv4/conf/v9/rp_filter
ip -batch - <<'END'
address add 10.70.0.1/24 dev v7
address add 10.90.0.1/24 dev v9
address add 2001:db8:90::1/64 dev v9 nodad
address add 10.60.0.1/24 dev b6
address add 10.42.0.1/24 dev vx0
route add 192.0.2.0/24 via 10.90.0.9 dev v9
route add 192.0.3.0/24 via 10.70.0.9 dev v7 table 500
route add 192.0.4.0/24 via 10.60.0.9 dev b6
neighbour add 10.90.0.50 lladdr 02:00:00:00:00:50 dev v9 nud permanent
END
"""
TC = """
for one in {dev} v9; do
    tc qdisc show dev $one; tc class show dev $one; tc filter show dev $one
    tc filter show dev $one ingress; tc filter show dev $one egress
done | sed -E 's/direct_packets_stat [0-9]+//; /not_in_hw/d; /^class fq_codel/d; s/ (index|ref|bind) [0-9]+//g; / 0: /d'
bridge -d link show | sed 's/^[0-9]*: //'
bridge vlan show dev m2; bridge fdb show dev m2 | grep static; bridge mdb show | grep permanent
ip token get dev v9
"""
CLEAN = """
for one in bo0 br0 red ms0 vx0 m1 m2 i1 i2 b6 v8 v7 v9; do ip link del $one; done
ip link set {dev} mtu 1500 alias '' txqueuelen 1000; tc qdisc del dev {dev} clsact
ip rule del pref 1000; ip -6 rule del pref 1000
"""


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


def replug(here: Site) -> None:
    vm = here.vm
    vm.run(f"echo {vm.pci} > {DRIVER}/unbind; echo {vm.pci} > {DRIVER}/bind")
    there = f"ls /sys/bus/pci/devices/{vm.pci}/infiniband"
    eventually(lambda: vm.run(there, check=False).out, 60, "the RDMA devices")


def released(here: Site) -> Run:
    ran = here.well("release", "--all", "--json")
    assert here.journals() == {}
    return ran


def test_every_kind_of_upper_comes_back(here: Site) -> None:
    dev, vm = here.second, here.vm
    made = vm.run(["sh", "-s"], input=STACK.format(dev=dev, modules=MODULES), check=False)
    print(made.out)
    shown = f"ip -j -d link show {dev} | jq '.[0].mtu'"
    assert here.sh(shown).strip() == "1400"
    before, queues = here.view(), here.sh(TC.format(dev=dev))
    numbers = here.sh("ip -j link | jq -c '[.[] | select(.link) | [.ifname, .ifindex]]'")
    # Both: what is on a port that is not claimed is lost by a replug.
    ports = ["--raw-qp", here.first, "--raw-qp", dev]
    here.well("claim", "--json", *ports, "--allow", "upper")
    replug(here)
    assert "v7" not in here.sh("ip -br link")
    ran = released(here)
    texts = [one["text"] for one in ran.document["ports"][1]["lost"]]
    has_keys = '"ms0"' in numbers  # not every kernel has it
    assert len(texts) == 1 + has_keys, texts
    with wording:
        keys = [text for text in texts if text.startswith("keys of macsec ms0")]
        assert len(keys) == has_keys
    found = networks.differences(networks.numberless(before), networks.numberless(here.view()))
    assert found == [], "\n".join(found)
    assert here.sh(TC.format(dev=dev)) == queues
    assert here.sh("ip -j link | jq -c '[.[] | select(.link) | [.ifname, .ifindex]]'") == numbers
    vm.run(CLEAN.format(dev=dev), check=False)

"""Lines as they were printed by the real programs find their topic; nonsense finds none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manactl.explain.find import TOPICS, find

# As printed in the lab by Linux 6.12 and 7.3, iproute2, ethtool and testpmd 24.11, and, for what
# the lab does not have, by hv_netvsc, libmana and ib_uverbs (rdma-core 56.1).
LINES = {
    "MANA_DRIVER: mana_start_tx_queues(): Failed to create qp queue index 0": "dpdk-tx-queues",
    "MANA_DRIVER: mana_dev_start(): failed to start tx queues -19": "dpdk-tx-queues",
    "mana_dev_start(): failed to start tx queues -16": "dpdk-tx-queues",
    "Fail to start port 0: Device or resource busy": "dpdk-tx-queues",
    "Fail to start port 0: Operation not permitted": "dpdk-tx-queues",
    "Not all ports were started": "dpdk-tx-queues",
    "EAL: Cannot get hugepage information.": "dpdk-hugepages",
    "EAL: No free 2048 kB hugepages reported on node 0": "dpdk-hugepages",
    "Cannot init EAL: Permission denied": "dpdk-hugepages",
    "testpmd: No probed ethernet devices": "dpdk-no-port",
    "Error during enabling promiscuous mode for port 0: Operation not supported - ignore": (
        "dpdk-promiscuous"
    ),
    "[   73.397977] mana 0000:01:00.0 eth1: Failed to create vPort 1 : -16": "open-refused",
    "mana 0000:01:00.0 eth1: mana_open failed to allocate queues: -16": "open-refused",
    "RTNETLINK answers: Device or resource busy": "open-refused",
    "SIOCSIFFLAGS: Device or resource busy": "open-refused",
    "netlink error: Device or resource busy": "ethtool-busy",
    "hv_netvsc f8615163-0000 eth0: unable to open slave: enP30832s1: -16": "netvsc-vf-not-opened",
    "hv_netvsc f8615163-0000 eth0: Data path switched from VF: enP30832s1": "data-path",
    "Create RAW QP should use parent domain": "parent-domain",
    "RAW QP requires extern alloc for buffers": "extern-alloc",
    "error: Operation not supported": "rdma-res-qp",
    "rdma resource show qp error: Operation not supported": "rdma-res-qp",
    "netlink error: Operation not supported": "ethtool-refused",
    "ethtool: netlink error: Operation not supported": "ethtool-refused",
    "Cannot get device pause settings: Operation not supported": "ethtool-refused",
    "EAL: cannot find pci device": "dpdk-device-unusable",
    "EAL: Cannot find device 7870:00:00.0": "dpdk-device-unusable",
    "EAL: No free hugepages reported in hugepages-1048576kB": "dpdk-memory",
    "EAL: Error enabling interrupts for fd 30 (Invalid argument)": "dpdk-uio-vfio",
    "EAL: Cannot create lcore thread": "dpdk-init",
    "hn_vf_attach(): port 1 VF probe failed -19": "dpdk-netvsc-vf-failed",
    "HN_DRIVER: hn_vf_stop(): words of another version": "dpdk-netvsc-vf-failed",
    "HN_DRIVER: hn_rndis_query(): words of another version": "dpdk-netvsc-channel",
    "mlx5_common: Verbs device not found: 0000:01:00.0": "dpdk-mlx5",
    "mlx5_net: probe of PCI device 0000:01:00.0 aborted after encountering an error: "
    "Operation not supported": "dpdk-mlx5",
    "[   12.345678] mlx5_core 0000:01:00.0 eth2: Link up": "dpdk-mlx5",
    "link manae_0/2 state DOWN physical_state DISABLED ": "rdma-link-down",
    "\tstate:\t\t\tPORT_DOWN (1)": "rdma-link-down",
    "mana 0000:01:00.0 mana_0: Port: 1 Link DOWN": "rdma-link-down",
    "mana 0000:01:00.0 eth1: Enabled vPort 2 PD 21 DB 15 MAC 02:15:5d:00:00:02": "vport-given",
    "mana 0000:01:00.0 eth1: Configured vPort 2 PD 20 DB 11": "vport-given",
    "mana 0000:01:00.0: Command 0x20003 timed out: 30000 ms": "device-silent",
    "mana 39d4:00:02.0: HWC: Request timed out!": "device-silent",
    "mana 0000:01:00.0: MANA reset cycle start": "device-reset",
    "uverbs_write: process 1490213 (diod) changed security contexts after opening file "
    "descriptor, this is not allowed.": "uverbs-credentials",
    "  tcp-established: eth0: 1 live TCP connection: 10.1.0.4:42338 - 10.1.0.9:7000": (
        "tcp-established"
    ),
    "FIN-WAIT-1 0      0      10.1.0.4:42338 10.1.0.9:7000": "tcp-established",  # as ss has it
    "last-ack": "tcp-established",
    "manactl: refused to claim eth0; nothing was touched": "refused",
    "manactl: eth1 cannot be released: a raw QP still has its vport (pid 206 dpdk-testpmd); "
    "nothing was changed": "holder",
    "  holder: eth1: a raw QP has the vport already (pid 189 python3).": "holder",
    "  not attempted: restore and verify eth1": "residue",
    "manactl: another manactl is at work on 0000:01:00.0: pid 7 (python3), since just now": (
        "locked"
    ),
    # Of containers, libibverbs, the EAL and the RDMA core.
    "libibverbs: Warning: no userspace device-specific driver found for "
    "/sys/class/infiniband_verbs/uverbs0": "ibv-no-driver",
    "libibverbs: Warning: couldn't load driver 'libmana-rdmav34.so': libmana-rdmav34.so: cannot "
    "open shared object file: No such file or directory": "ibv-no-driver",
    "couldn't open config directory '/etc/libibverbs.d'": "ibv-config",
    "libibverbs: Warning: couldn't open config directory '/etc/libibverbs.d'.": "ibv-config",
    "libibverbs: Warning: Driver mana does not support the kernel ABI of 2 (supports 1 to 1) for "
    "device /sys/class/infiniband/mana_0": "ibv-abi",
    "libibverbs: Warning: RLIMIT_MEMLOCK is 65536 bytes.\n    This will severely limit memory "
    "registrations.": "ibv-limits",
    "EAL: Requested device 7870:00:00.0 cannot be used": "dpdk-device-unusable",
    "PCI_BUS: Requested device 7870:00:00.0 cannot be used": "dpdk-device-unusable",
    "EAL: Driver cannot attach the device": "dpdk-device-unusable",
    "EAL: Driver cannot attach the device (7870:00:00.0)": "dpdk-device-unusable",
    "EAL: Cannot find bus for device": "dpdk-device-unusable",
    "EAL: Cannot find bus (pcie)": "dpdk-device-unusable",
    "EAL: Bus (pci) probe failed.": "dpdk-device-unusable",
    "EAL: FATAL: Cannot init memory": "dpdk-memory",
    "EAL: Cannot init memory": "dpdk-memory",
    "EAL: FATAL: Cannot init config": "dpdk-lock",
    "EAL: Cannot create lock on '/var/run/dpdk/rte/config'. Is another primary process running?": (
        "dpdk-lock"
    ),
    "EAL: FATAL: Invalid 'command line' arguments.": "dpdk-init",
    "EAL: FATAL: something that a later version says": "dpdk-init",
    "EAL:   Expecting 'PA' IOVA mode but current mode is 'VA', not initializing": "dpdk-iova",
    "Cannot change net namespace of RDMA device in shared netns mode.": "rdma-netns-shared",
    "incorrect RDMA subsystem network namespace": "rdma-netns-exclusive",
    "Cannot change channels when RDMA is active": "ethtool-busy",
    "netlink error: Cannot change channels when RDMA is active\nnetlink error: Device or resource "
    "busy": "ethtool-busy",
    "ipv6: Multicast auto join failed.": "ipv6-autojoin",
    "Error: ipv6: Multicast auto join failed.": "ipv6-autojoin",
    "hn_vf_attach(): found matching VF port 1": "dpdk-netvsc-vf",
    "HN_DRIVER: hn_vf_attach(): Couldn't find port for VF": "dpdk-netvsc-vf-failed",
    "open /dev/infiniband/uverbs0: operation not permitted": "uverbs-open",
    "ibv_devinfo: /dev/infiniband/uverbs0: Permission denied": "uverbs-open",
    'error creating new device: "missing RDMA device spec for device 7870:00:00.0, RDMA device '
    '\\"issm\\" not found"': "uverbs-open",
    "RDMA resources for 7870:00:00.0 not found. Are RDMA modules loaded?": "no-rdma-driver",
    "dpdk|ERR|EAL: Driver cannot attach the device (7870:00:00.0)": "dpdk-device-unusable",
    "netdev_dpdk|WARN|Error attaching device '7870:00:00.0' to DPDK": "dpdk-device-unusable",
    "EAL: Error - exiting with code: 1\n  Cause: No Ethernet ports - bye": "dpdk-no-port",
    "RTNETLINK answers: No such device": "netdev-missing",
    'Cannot find device "eth1"': "netdev-missing",
    "RTNETLINK answers: Operation not permitted": "EPERM",
    "RDMA_CM_EVENT_ADDR_ERROR, error: -19": "rdma-cm",
    "nvme_rdma.c: 587:nvme_rdma_resolve_addr: *ERROR*: RDMA_CM_EVENT_ADDR_ERROR, error: -19": (
        "rdma-cm"
    ),
    "cma event RDMA_CM_EVENT_ADDR_ERROR, error -19": "rdma-cm",
    "RDMA CMA: address error, error -19": "rdma-cm",
    "ib_write_bw: unexpected CM event: RDMA_CM_EVENT_REJECTED, error 28": "rdma-cm",
    "Device or resource busy": "EBUSY",
    "[Errno 16] Device or resource busy": "EBUSY",
    "OSError: [Errno 12] Cannot allocate memory": "ENOMEM",
    "ibv_create_qp failed: errno 22": "EINVAL",
    "ENODEV": "ENODEV",
    "-ENODEV": "ENODEV",
    "enodev": "ENODEV",
    "-19": "ENODEV",
    "95": "EOPNOTSUPP",
    "3": "refused",
    "exit code 6": "busy",
    "command exited with status 5": "not-restored",
}  # fmt: skip


@pytest.mark.parametrize(("line", "name"), LINES.items())
def test_a_real_line_finds_its_topic_alone(line: str, name: str) -> None:
    assert [topic.name for topic in find(line).topics] == [name]
    quoted = find(f'"{line}"')
    assert quoted.topics[:1] == find(line).topics[:1]


def test_the_number_in_a_line_is_read() -> None:
    assert find("failed to start tx queues -19").errno == 19
    assert find("Fail to start port 0: Operation not permitted").errno == 1
    assert find("Failed to create vPort 0 : -16").errno == 16
    assert find("2026-11-23 mana 7870:00:00.0: Not all ports were started").errno is None


def test_a_bare_number_is_exit_code_and_errno_a_negative_one_errno_alone() -> None:
    assert [t.name for t in find("1").topics] == ["bug", "EPERM"]
    assert [t.name for t in find("-1").topics] == ["EPERM"]
    assert [t.name for t in find("0").topics] == ["done"]


def test_an_errno_that_the_topic_does_not_explain_is_explained_beside_it() -> None:
    names = [topic.name for topic in find("mana_open failed to allocate queues: -12").topics]
    assert names == ["open-refused", "ENOMEM"]


@pytest.mark.parametrize(
    "line",
    [
        "usb 1-1: device descriptor read/64, error -19",
        "nvme nvme0: Connect rejected: status -19",
        "RDMA_CM_EVENT_SOMETHING_NEW, error: -19",
        "bind: No such device",
        "umount: /mnt: Device or resource busy",
        "rsync error: some files could not be transferred (code 16)",
        "postgres[17]: could not open relation, errno 16",
    ],
)
def test_a_number_behind_the_words_of_another_program_is_weaker_than_the_words(line: str) -> None:
    """It must not be told as what the number means with MANA: a vport with another owner."""
    assert not {"EBUSY", "ENODEV"} & {topic.name for topic in find(line).topics}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("error: -19", "ENODEV"),
        ("eth1: Device or resource busy", "EBUSY"),
        ("enP30832s1: error -16", "EBUSY"),
        ("failed with error code -16", "EBUSY"),
        ("OSError: [Errno 19] No such device", "ENODEV"),
        ("mana 7870:00:00.0 eth1: something new: -16", "EBUSY"),
        ("ibv_create_qp: No such device", "ENODEV"),
        ("libibverbs: something new: Device or resource busy", "EBUSY"),
        ("could not create the raw QP: -19", "ENODEV"),
    ],
)
def test_a_number_alone_or_behind_words_about_mana_is_explained(line: str, name: str) -> None:
    assert [topic.name for topic in find(line).topics] == [name]


def test_the_number_of_a_line_that_is_not_known_is_still_read() -> None:
    found = find("usb 1-1: device descriptor read/64, error -19")
    assert (found.topics, found.errno) == ((), 19)


def test_several_lines_give_several_topics_in_their_order() -> None:
    log = "eth1: Enabled vPort 2 PD 21 DB 15\neth1: Failed to create vPort 1 : -16\n"
    assert [t.name for t in find(log).topics] == ["vport-given", "open-refused"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tcp-establishd", "tcp-established"),
        ("ssh", "ssh-session"),
        ("hugepage", "dpdk-hugepages"),
        ("promiscuous", "dpdk-promiscuous"),
        ("create queue pair parent", "parent-domain"),
    ],
)
def test_what_is_not_known_has_near_topics(text: str, name: str) -> None:
    found = find(text)
    assert found.topics == ()
    assert name in [topic.name for topic in found.nearest]


@pytest.mark.parametrize(
    "text", ["", "xyzzy", "4711", "-4711", "---", "\x1b[31m", "²", "()[]*+?\\"]
)
def test_nonsense_is_not_known(text: str) -> None:
    assert find(text).topics == ()


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    found = find(text)
    assert set(found.topics) <= set(TOPICS)
    assert not (found.topics and found.nearest)


def test_a_line_of_quotes_alone_ends() -> None:
    """With quotes of any number its time grew by their square: minutes for 50 000."""
    assert find("'" * 200_000).topics == ()

"""A port and the synthetic netdev of hv_netvsc above it, from sysfs alone.

The pair is known by the port's master and that one's driver, never by a name. The path is the
host's affair: it delivers by the VF after the guest has asked for that. What shows it here are
the VF's own counters, which the mana driver begins again with every open (mana_get_stats64()).
"""

from manactl.look import vmbus
from manactl.look.sysfs import Roots
from manactl.look.text_files import number
from manactl.look.vmbus import VmbusNic
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Netdev


class Frames(NamedTuple):
    """How many frames have passed on the VF since it was opened, and were sent on either path. What
    is received tells less: the host delivers broadcasts by the synthetic path at any time."""

    vf: int
    sent: int


def synthetic(netdev: Netdev, roots: Roots = Roots()) -> VmbusNic | None:  # noqa: B008 - frozen
    """The device above a port; None where its master is none of hv_netvsc, or it has none."""
    uuid = netdev.master and vmbus.uuid_of(netdev.master, roots)
    found = vmbus.nic(uuid, roots) if uuid else None
    return found if found is not None and found.driver == vmbus.NETVSC else None


def unjoined(netdev: Netdev, roots: Roots = Roots()) -> VmbusNic | None:  # noqa: B008 - frozen
    """The device that the port is to be the VF of, while hv_netvsc has not joined the two yet.

    netvsc_register_vf() joins a VF to the netdev of its own MAC address as soon as both are there.
    Before there is such a netdev, or where its address cannot be read, Azure's UUIDs tell: they are
    made of the MAC address.
    """
    macs = {mac for mac in (netdev.permanent_mac, netdev.mac) if mac}
    if netdev.master is not None or not macs:
        return None
    for nic in vmbus.nics(roots):
        mac = nic.mac or vmbus.mac_of(nic.uuid)
        if mac in macs and nic.driver in (None, vmbus.NETVSC):
            return nic
    return None


def frames(vf: str, master: str, roots: Roots = Roots()) -> Frames | None:  # noqa: B008 - frozen
    """The counters of both netdevs; None when they could not be read."""
    rx, tx, sent = (
        _count(vf, "rx", roots), _count(vf, "tx", roots), _count(master, "tx", roots)
    )  # fmt: skip
    return None if rx is None or tx is None or sent is None else Frames(rx + tx, sent)


def data_path(vf: Netdev, nic: VmbusNic, roots: Roots = Roots()) -> str | None:  # noqa: B008
    """Where frames of the synthetic netdev go: "vf", "synthetic", or None where nothing shows it
    or it is down."""
    if not nic.admin_up or nic.netdev is None:
        return None
    if not vf.admin_up:
        return None if vf.admin_up is None else "synthetic"
    count = frames(vf.name, nic.netdev, roots)
    return "vf" if count is not None and count.vf else None


def _count(name: str, which: str, roots: Roots) -> int | None:
    return number(f"{roots.sys}/class/net/{name}/statistics/{which}_packets")

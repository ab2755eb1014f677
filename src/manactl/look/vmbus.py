"""VMBus network devices and their netdevs, from sysfs alone.

The netdev of hv_netvsc is the master of a MANA port on Azure. While the host does not answer, a
driver waits for it with RTNL held, and every request of rtnetlink waits too; these files do not.
"""

from manactl.look.sysfs import Roots, device
from manactl.look.text_files import names, number, target_name, text
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import IFF_UP

NETWORK = "{f8615163-df3e-46c5-913f-f2d2f965ed0e}"  # class_id, HV_NIC_GUID in linux/hyperv.h
_UUID_DIGITS = 32
NETVSC = "hv_netvsc"
UIO = "uio_hv_generic"
_OPENED = 3  # CHANNEL_OPENED_STATE of enum vmbus_channel_state in linux/hyperv.h


class VmbusNic(NamedTuple):
    """A network device on the VMBus: its UUID stays while netdevs come and go.

    `driver` is None while none has it; `netdev` and the rest are None where none of this network
    namespace belongs to it, or it vanished meanwhile.
    """

    uuid: str
    driver: str | None
    netdev: str | None = None
    ifindex: int | None = None
    mac: str | None = None
    flags: int | None = None

    @property
    def admin_up(self) -> bool | None:
        """IFF_UP, or None where there is no netdev, or its flags could not be read."""
        return None if self.flags is None else bool(self.flags & IFF_UP)


def nics(roots: Roots = Roots()) -> list[VmbusNic]:  # noqa: B008 - frozen
    """All network devices of the VMBus, by UUID; none where there is no VMBus."""
    base = f"{roots.sys}/bus/vmbus/devices"
    return [
        found
        for uuid in sorted(names(base))
        if text(f"{base}/{uuid}/class_id") == NETWORK and (found := nic(uuid, roots)) is not None
    ]


def nic(uuid: str, roots: Roots = Roots()) -> VmbusNic | None:  # noqa: B008 - frozen
    """The device of that UUID as it is now; None when there is none."""
    base = f"{roots.sys}/bus/vmbus/devices/{uuid}"
    if text(f"{base}/class_id") is None:
        return None
    driver = target_name(f"{base}/driver")
    for name in sorted(names(f"{base}/net")):
        net = f"{base}/net/{name}"
        ifindex = number(f"{net}/ifindex")
        if ifindex is not None:  # else it has just gone, or is just being renamed
            mac = text(f"{net}/address") or None
            return VmbusNic(uuid, driver, name, ifindex, mac, number(f"{net}/flags"))
    return VmbusNic(uuid, driver)


def uuid_of(netdev: str, roots: Roots = Roots()) -> str | None:  # noqa: B008 - frozen
    """The UUID of the VMBus device that a netdev belongs to; None for any other netdev."""
    base = f"{roots.sys}/class/net/{netdev}"
    if target_name(f"{base}/device/subsystem") != "vmbus":
        return None
    return target_name(f"{base}/device")


def mac_of(uuid: str) -> str | None:
    """The MAC address that Azure has made the UUID of a network device of, by repeating it; None
    for any other UUID."""
    digits = uuid.replace("-", "").lower()
    mac = digits[:12]
    if digits != (mac * 3)[: len(digits)] or len(digits) != _UUID_DIGITS:
        return None
    return ":".join(mac[at : at + 2] for at in range(0, len(mac), 2))


def is_open(uuid: str, roots: Roots = Roots()) -> bool | None:  # noqa: B008 - frozen
    """Whether the channel of the device is open (state_show() of the bus): one of uio_hv_generic's is
    while a program has the uio device open, wherever that runs. None: that could not be read."""
    state = number(f"{roots.sys}/bus/vmbus/devices/{uuid}/state")
    return None if state is None else state == _OPENED


def uio_rdev(uuid: str, roots: Roots = Roots()) -> int | None:  # noqa: B008 - frozen
    """st_rdev of /dev/uioN, while uio_hv_generic has the device."""
    base = f"{roots.sys}/bus/vmbus/devices/{uuid}/uio"
    for name in names(base):
        major, _, minor = (text(f"{base}/{name}/dev") or "").partition(":")
        if (rdev := device(major, minor)) is not None:
            return rdev
    return None

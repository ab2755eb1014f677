"""NetworkManager by its D-Bus interface: whether it has a device, and what is active on it."""

from __future__ import annotations

from manactl.look.bus import Bus, Interface
from manactl.model.value import Value

SERVICE = "org.freedesktop.NetworkManager"
_ROOT = "/org/freedesktop/NetworkManager"
_MANAGER = Interface(SERVICE, _ROOT, SERVICE)
_SETTINGS = Interface(SERVICE, f"{_ROOT}/Settings", f"{SERVICE}.Settings")
_RELOAD_CONF = 0x1  # NMManagerReloadFlags: NetworkManager.conf and its drop-ins, nothing else
_NOTHING = "/"  # the object path that stands for none

# NMDeviceState
ACTIVATED = 100
# NMActivationStateFlags
_IP_READY = 0x8 | 0x10
_EXTERNAL = 0x80


class NmDevice(Value):
    """One device. `profile` is the UUID of the connection that is active on it by NetworkManager's
    own doing; None also where it only watches what others have configured ("connected
    (externally)"). `ready`: the IP families that are done, as flags."""

    path: str
    managed: bool
    state: int
    mac: str | None
    driver: str | None
    profile: str | None = None
    ready: int = 0

    @property
    def settled(self) -> bool:
        """Whether it has done all that it will do without an event."""
        return self.state == ACTIVATED


def device(bus: Bus, name: str) -> NmDevice:
    """The device of this netdev. OSError when NetworkManager does not answer, or has none."""
    (path,) = bus.call(_MANAGER, "GetDeviceByIpIface", "s", name)
    at = _device(path)
    managed, state, mac, driver, active = bus.get(
        at, "Managed", "State", "HwAddress", "Driver", "ActiveConnection"
    )
    profile, ready = None, 0
    if active != _NOTHING:
        where = Interface(SERVICE, str(active), f"{SERVICE}.Connection.Active")
        uuid, flags = bus.get(where, "Uuid", "StateFlags")
        ready = int(flags) & _IP_READY
        profile = None if int(flags) & _EXTERNAL else str(uuid)
    return NmDevice(
        str(path),
        managed is True,
        int(state),
        str(mac).lower() or None,
        str(driver) or None,
        profile,
        ready,
    )


def set_managed(bus: Bus, path: str, managed: bool) -> None:
    """Take a device, or let go of it; then all that is on the netdev stays."""
    bus.put(_device(path), "Managed", "b", "true" if managed else "false")


def activate(bus: Bus, path: str, profile: str) -> None:
    """Activate a connection on a device. OSError when the profile is gone, say."""
    (connection,) = bus.call(_SETTINGS, "GetConnectionByUuid", "s", profile)
    bus.call(_MANAGER, "ActivateConnection", "ooo", str(connection), path, _NOTHING)


def reload(bus: Bus) -> None:
    """Have the configuration files read again."""
    bus.call(_MANAGER, "Reload", "u", str(_RELOAD_CONF))


def _device(path: str) -> Interface:
    return Interface(SERVICE, path, f"{SERVICE}.Device")

"""What is said of programs that change links, addresses or routes. Decides nothing."""

from __future__ import annotations

from manactl.escape import command
from manactl.netstate.surroundings import Daemon, Does


def who(daemon: Daemon) -> str:
    """Its name with its processes: "FRR (pid 7 zebra)"."""
    processes = ", ".join(map(str, daemon.processes))
    return f"{daemon.name} ({processes})" if processes else daemon.name


def effect(daemon: Daemon, port: str) -> str:
    """What it may do to a port that is set down."""
    match daemon.does:
        case Does.LINKS:
            return f"it may set {port} up again, or configure it"
        case Does.ADDRESSES:
            return "its timer changes addresses, routes and rules, also while a port is claimed"
        case Does.ROUTES:
            return (
                f"it notices when {port} goes down, and withdraws or adds its own addresses, routes "
                "and nexthops by itself"
            )
        case Does.RESTARTS:
            return (
                "when the host name changes it restarts the network "
                f"(Provisioning.MonitorHostName=y in /etc/waagent.conf), and {port} with it, unless "
                "its network manager leaves it alone then"
            )


def holds(name: str, port: str) -> tuple[str, ...]:  # noqa: PLR0911 - a case for each
    """Command lines that keep a manager from a port; none where it need not be kept from it.

    Those that have no way to let go of a netdev that they have set up are only kept from what they
    do at boot and at a replug; the rest has to be accepted.
    """
    accept = command("manactl", "claim", "--raw-qp", port, "--allow", "manager")
    ifname = ["ifname"] if port.startswith("-") else []
    match name:
        case "NetworkManager":
            return (command("nmcli", "device", "set", *ifname, port, "managed", "no"),)
        case "wicked":
            manual = "s/^STARTMODE=.*/STARTMODE='manual'/"
            return (command("sed", "-i", manual, f"/etc/sysconfig/network/ifcfg-{port}"), accept)
        case "dhcpcd":
            return (
                command("echo", "denyinterfaces", port) + " >> /etc/dhcpcd.conf",
                command("dhcpcd", "--exit", names=[port]),
                command(
                    "rm", "-f", f"/var/lib/dhcpcd/{port}.lease", f"/var/lib/dhcpcd/{port}.lease6"
                ),
            )
        case "ConnMan":
            return (
                "${EDITOR:-vi} /etc/connman/main.conf  # NetworkInterfaceBlacklist= in [General]",
                "systemctl restart connman",
                accept,
            )
        case "ifupdown":
            comment = f"s/^(auto|allow-hotplug) {port}$/# &/"
            return (command("sed", "-i", "-E", comment, "/etc/network/interfaces"), accept)
        case "cloud-netconfig" | "nm-cloud-setup":
            return (f"systemctl stop {name}.timer",)
        case "WALinuxAgent":
            return (
                "sed -i 's/^Provisioning.MonitorHostName=.*/Provisioning.MonitorHostName=n/' "
                "/etc/waagent.conf",
                "systemctl try-restart walinuxagent.service waagent.service",
            )
    return ()

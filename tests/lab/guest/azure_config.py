"""Has cloud-init write what it writes in a VM of Azure with such an interface, and netplan read it.

    python3 azure_config.py MAC SECOND_ADDRESS

The metadata service's answer is made up here; all that follows is cloud-init's own: its Azure data
source makes the network configuration of it (with the driver of the interface that has this MAC
address), its renderer the file for netplan, and what that runs afterwards makes networkd's.
"""

from __future__ import annotations

import sys

from cloudinit.net import netplan, network_state
from cloudinit.sources import DataSourceAzure


def main(mac: str, second: str) -> None:
    ours = [{"privateIpAddress": one, "publicIpAddress": ""} for one in ("10.9.0.4", second)]
    interface = {
        "macAddress": mac.replace(":", "").upper(),
        "ipv4": {"ipAddress": ours, "subnet": [{"address": "10.9.0.0", "prefix": "24"}]},
        "ipv6": {"ipAddress": []},
    }
    config = DataSourceAzure.generate_network_config_from_instance_network_metadata(
        {"interface": [interface]}, apply_network_config_for_secondary_ips=True
    )
    renderer = netplan.Renderer(
        {"netplan_path": "etc/netplan/50-cloud-init.yaml", "postcmds": True}
    )
    state = network_state.parse_net_config_data(config, renderer=renderer)
    renderer.render_network_state(state, target="/")


main(*sys.argv[1:])

"""An emulated Microsoft Azure Network Adapter (MANA) as a vfio-user server. See README.md."""

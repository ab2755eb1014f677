"""Netlink, as little of it as manactl needs: bytes in and out, no decisions."""

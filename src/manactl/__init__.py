"""manactl: who owns the vport of a MANA port, and how to change that safely."""

__version__ = "0.1.0"

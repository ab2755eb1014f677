"""One module per kernel interface: reads it, or asks it, and gives plain values."""

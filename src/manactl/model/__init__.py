"""Values only: what is known of a port, of what surrounds it, of a machine. No I/O, no decisions."""

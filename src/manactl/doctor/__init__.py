"""Is this machine fit to hand a port to RDMA? Reads the machine, judges, reports."""

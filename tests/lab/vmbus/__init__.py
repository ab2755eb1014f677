"""A VMBus without Hyper-V, so that the distribution's hv_netvsc runs in the guest; see README.md."""

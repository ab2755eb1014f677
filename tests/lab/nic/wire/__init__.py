"""Every layout that crosses the boundary between guest and device, each in one place.

`layout` is the declaration language, `messages` and `rnic` the HWC requests, `queues` the work,
completion and event entries, `smc` the shared-memory window, `vfio_user` the transport.
"""

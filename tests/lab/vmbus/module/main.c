// SPDX-License-Identifier: MIT OR GPL-2.0
/* A VMBus without Hyper-V: the module's start and end. README.md says what it is for. */
#include "lab.h"

static int __init lab_init(void)
{
	int error = record_init();

	if (error)
		return error;
	error = host_start();
	if (error)
		goto no_host;
	error = link_start();
	if (error)
		goto no_link;
	error = bus_init();
	if (error)
		goto no_bus;
	error = control_init();
	if (error)
		goto no_control;
	return 0;

no_control:
	bus_exit();
no_bus:
	link_stop();
no_link:
	host_stop();
no_host:
	record_exit();
	return error;
}

/* Drivers hold a reference through their imports, so none is registered any more. */
static void __exit lab_exit(void)
{
	record_exit(); /* first: no new commands */
	nic_rescind_all();
	bus_exit();
	link_stop();
	host_stop();
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_DESCRIPTION("A VMBus without Hyper-V, for tests");
MODULE_LICENSE("Dual MIT/GPL");

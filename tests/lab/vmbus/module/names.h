/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Kernels with the VMBus built in (7.x) export these names from vmlinux, and a module cannot export
 * them again. There this module's have a prefix, and so, by objcopy, have the imports of Debian's
 * drivers. The build reads this list: one "#define NAME lab_NAME" a line.
 */
#ifndef LAB_NAMES_H
#define LAB_NAMES_H

#define __hv_pkt_iter_next lab___hv_pkt_iter_next
#define __vmbus_driver_register lab___vmbus_driver_register
#define hv_create_ring_sysfs lab_hv_create_ring_sysfs
#define hv_pkt_iter_close lab_hv_pkt_iter_close
#define hv_pkt_iter_first lab_hv_pkt_iter_first
#define hv_remove_ring_sysfs lab_hv_remove_ring_sysfs
#define vmbus_alloc_buffer lab_vmbus_alloc_buffer
#define vmbus_alloc_ring lab_vmbus_alloc_ring
#define vmbus_close lab_vmbus_close
#define vmbus_connect_ring lab_vmbus_connect_ring
#define vmbus_connection lab_vmbus_connection
#define vmbus_device_unregister lab_vmbus_device_unregister
#define vmbus_devs lab_vmbus_devs
#define vmbus_disconnect_ring lab_vmbus_disconnect_ring
#define vmbus_driver_unregister lab_vmbus_driver_unregister
#define vmbus_establish_gpadl lab_vmbus_establish_gpadl
#define vmbus_establish_gpadl_caller_decrypted lab_vmbus_establish_gpadl_caller_decrypted
#define vmbus_free_buffer lab_vmbus_free_buffer
#define vmbus_free_ring lab_vmbus_free_ring
#define vmbus_next_request_id lab_vmbus_next_request_id
#define vmbus_open lab_vmbus_open
#define vmbus_proto_version lab_vmbus_proto_version
#define vmbus_request_addr lab_vmbus_request_addr
#define vmbus_sendpacket lab_vmbus_sendpacket
#define vmbus_sendpacket_mpb_desc lab_vmbus_sendpacket_mpb_desc
#define vmbus_set_chn_rescind_callback lab_vmbus_set_chn_rescind_callback
#define vmbus_set_event lab_vmbus_set_event
#define vmbus_set_sc_create_callback lab_vmbus_set_sc_create_callback
#define vmbus_teardown_gpadl lab_vmbus_teardown_gpadl

#endif

// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * GPADLs: memory that the guest lends to the host, by a handle. The host of the lab lives in the
 * same kernel, so a handle stands for the guest's own address of it.
 */
#include <linux/vmalloc.h>

#include "lab.h"

int vmbus_establish_gpadl(struct vmbus_channel *channel, void *buffer, u32 size,
			  struct vmbus_gpadl *gpadl)
{
	u32 handle = host_map(nic_of(channel), buffer, size);

	if (!handle)
		return -ENOMEM;
	gpadl->gpadl_handle = handle;
	gpadl->size = size;
	gpadl->buffer = buffer;
	gpadl->decrypted = false;
	return 0;
}
EXPORT_SYMBOL_GPL(vmbus_establish_gpadl);

int vmbus_teardown_gpadl(struct vmbus_channel *channel, struct vmbus_gpadl *gpadl)
{
	int error = host_unmap(nic_of(channel), gpadl->gpadl_handle);

	gpadl->gpadl_handle = 0;
	return (channel->primary_channel ?: channel)->rescind ? 0 : error;
}
EXPORT_SYMBOL_GPL(vmbus_teardown_gpadl);

#ifdef vmbus_open /* 7.x: the driver does not allocate by itself any more */
int vmbus_establish_gpadl_caller_decrypted(struct vmbus_channel *channel, void *buffer, u32 size,
					   struct vmbus_gpadl *gpadl)
{
	return vmbus_establish_gpadl(channel, buffer, size, gpadl);
}
EXPORT_SYMBOL_GPL(vmbus_establish_gpadl_caller_decrypted);

void *vmbus_alloc_buffer(struct vmbus_channel *channel, u32 size, struct page ***chunks,
			 u32 *chunk_count)
{
	*chunks = NULL;
	*chunk_count = 0;
	return vzalloc(size);
}
EXPORT_SYMBOL_GPL(vmbus_alloc_buffer);

void vmbus_free_buffer(void *buffer, struct page **chunks, u32 chunk_count)
{
	vfree(buffer);
}
EXPORT_SYMBOL_GPL(vmbus_free_buffer);
#endif

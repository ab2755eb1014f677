// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Transaction ids of the guest's requests: small numbers, so that a host that answers nonsense
 * cannot make the guest follow a pointer. A slot holds what the driver asked to be remembered.
 */
#include <linux/bitmap.h>

#include "lab.h"

int requestor_init(struct vmbus_requestor *requestor, u32 size)
{
	requestor->req_arr = kcalloc(size, sizeof(u64), GFP_KERNEL);
	requestor->req_bitmap = bitmap_zalloc(size, GFP_KERNEL);
	if (!requestor->req_arr || !requestor->req_bitmap) {
		requestor_free(requestor);
		return -ENOMEM;
	}
	requestor->size = size;
	requestor->next_request_id = 0;
	spin_lock_init(&requestor->req_lock);
	return 0;
}

void requestor_free(struct vmbus_requestor *requestor)
{
	kfree(requestor->req_arr);
	bitmap_free(requestor->req_bitmap);
	requestor->req_arr = NULL;
	requestor->req_bitmap = NULL;
	requestor->size = 0;
}

/* Remember `address`; its id is never 0. */
u64 vmbus_next_request_id(struct vmbus_channel *channel, u64 address)
{
	struct vmbus_requestor *requestor = &channel->requestor;
	u64 id = VMBUS_RQST_ERROR;
	unsigned long flags, slot;

	if (!channel->rqstor_size)
		return VMBUS_NO_RQSTOR;
	spin_lock_irqsave(&requestor->req_lock, flags);
	slot = find_next_zero_bit(requestor->req_bitmap, requestor->size,
				  requestor->next_request_id);
	if (slot >= requestor->size)
		slot = find_first_zero_bit(requestor->req_bitmap, requestor->size);
	if (slot < requestor->size) {
		__set_bit(slot, requestor->req_bitmap);
		requestor->req_arr[slot] = address;
		requestor->next_request_id = slot + 1;
		id = slot + 1;
	}
	spin_unlock_irqrestore(&requestor->req_lock, flags);
	return id;
}
EXPORT_SYMBOL_GPL(vmbus_next_request_id);

/* What was remembered under `id`, and forget it. */
u64 vmbus_request_addr(struct vmbus_channel *channel, u64 id)
{
	struct vmbus_requestor *requestor = &channel->requestor;
	u64 address = VMBUS_RQST_ERROR;
	unsigned long flags;

	if (!channel->rqstor_size)
		return VMBUS_NO_RQSTOR;
	if (!id)
		return VMBUS_RQST_ERROR;
	spin_lock_irqsave(&requestor->req_lock, flags);
	if (id <= requestor->size && __test_and_clear_bit(id - 1, requestor->req_bitmap))
		address = requestor->req_arr[id - 1];
	spin_unlock_irqrestore(&requestor->req_lock, flags);
	return address;
}
EXPORT_SYMBOL_GPL(vmbus_request_addr);

// SPDX-License-Identifier: MIT OR GPL-2.0
/* The guest's side of a channel: rings, open and close, sending, and the interrupt. */
#include "lab.h"

__u32 vmbus_proto_version = VERSION_WIN10_V5_3;
EXPORT_SYMBOL_GPL(vmbus_proto_version);

/* ---- Rings */

int vmbus_alloc_ring(struct vmbus_channel *channel, u32 send_size, u32 receive_size)
{
	struct page *pages;

	if (!PAGE_ALIGNED(send_size) || !PAGE_ALIGNED(receive_size))
		return -EINVAL;
	pages = alloc_pages(GFP_KERNEL | __GFP_ZERO, get_order(send_size + receive_size));
	if (!pages)
		return -ENOMEM;
	channel->ringbuffer_page = pages;
	channel->ringbuffer_pagecount = (send_size + receive_size) >> PAGE_SHIFT;
	channel->ringbuffer_send_offset = send_size >> PAGE_SHIFT;
	return 0;
}
EXPORT_SYMBOL_GPL(vmbus_alloc_ring);

void vmbus_free_ring(struct vmbus_channel *channel)
{
	if (!channel->ringbuffer_page)
		return;
	__free_pages(channel->ringbuffer_page,
		     get_order(channel->ringbuffer_pagecount << PAGE_SHIFT));
	channel->ringbuffer_page = NULL;
}
EXPORT_SYMBOL_GPL(vmbus_free_ring);

/* The primary's: the host takes back all channels of an offer. */
static bool rescinded(const struct vmbus_channel *channel)
{
	return READ_ONCE((channel->primary_channel ?: channel)->rescind);
}

static int connect_ring(struct vmbus_channel *channel, void (*callback)(void *context),
			void *context, bool polled)
{
	u32 out = channel->ringbuffer_send_offset, in = channel->ringbuffer_pagecount - out;
	int error;

	if (rescinded(channel))
		return -ENODEV;
	if (channel->state != CHANNEL_OPEN_STATE)
		return -EINVAL;
	error = ring_init(&channel->outbound, channel->ringbuffer_page, out);
	if (error)
		return error;
	error = ring_init(&channel->inbound, channel->ringbuffer_page + out, in);
	if (error)
		goto no_inbound;
	error = channel->rqstor_size ? requestor_init(&channel->requestor, channel->rqstor_size) : 0;
	if (error)
		goto no_requestor;
	error = vmbus_establish_gpadl(channel, page_address(channel->ringbuffer_page),
				      channel->ringbuffer_pagecount << PAGE_SHIFT,
				      &channel->ringbuffer_gpadlhandle);
	if (error)
		goto no_gpadl;
	channel->onchannel_callback = callback;
	channel->channel_callback_context = context;
	channel->state = CHANNEL_OPENED_STATE;
	error = host_open(channel, polled);
	if (error)
		goto not_opened;
	return 0;

not_opened:
	channel->onchannel_callback = NULL;
	channel->state = CHANNEL_OPEN_STATE;
	vmbus_teardown_gpadl(channel, &channel->ringbuffer_gpadlhandle);
no_gpadl:
	requestor_free(&channel->requestor);
no_requestor:
	ring_free(&channel->inbound);
no_inbound:
	ring_free(&channel->outbound);
	return error;
}

int vmbus_connect_ring(struct vmbus_channel *channel, void (*callback)(void *context),
		       void *context)
{
	return connect_ring(channel, callback, context, true);
}
EXPORT_SYMBOL_GPL(vmbus_connect_ring);

/* Of a channel that the host has closed. */
static void disconnect(struct vmbus_channel *channel)
{
	unsigned long flags;

	spin_lock_irqsave(&channel->sched_lock, flags);
	channel->onchannel_callback = NULL;
	spin_unlock_irqrestore(&channel->sched_lock, flags);
	channel->state = CHANNEL_OPEN_STATE;
	ring_free(&channel->outbound);
	ring_free(&channel->inbound);
	requestor_free(&channel->requestor);
	vmbus_teardown_gpadl(channel, &channel->ringbuffer_gpadlhandle);
}

/*
 * Afterwards neither the callback nor the host looks at the rings any more. Sub-channels go with the
 * first channel and not by themselves; the host then takes their offers back.
 */
int vmbus_disconnect_ring(struct vmbus_channel *channel)
{
	struct nic *nic = nic_of(channel);
	struct vmbus_channel *sub;

	if (channel->state != CHANNEL_OPENED_STATE)
		return -EINVAL;
	if (channel->primary_channel) {
		violation(nic, "sub-channel", "channel %u closed by itself", index_of(channel));
		return -EINVAL;
	}
	host_close(nic);
	list_for_each_entry(sub, &channel->sc_list, sc_list) {
		if (sub->state == CHANNEL_OPENED_STATE)
			disconnect(sub);
		vmbus_free_ring(sub);
	}
	disconnect(channel);
	subs_end(nic);
	return 0;
}
EXPORT_SYMBOL_GPL(vmbus_disconnect_ring);

int vmbus_open(struct vmbus_channel *channel, u32 send_size, u32 receive_size, void *user_data,
	       u32 user_data_length, void (*callback)(void *context), void *context)
{
	int error = vmbus_alloc_ring(channel, send_size, receive_size);

	if (error)
		return error;
	error = connect_ring(channel, callback, context, false);
	if (error)
		vmbus_free_ring(channel);
	return error;
}
EXPORT_SYMBOL_GPL(vmbus_open);

void vmbus_close(struct vmbus_channel *channel)
{
	if (!vmbus_disconnect_ring(channel))
		vmbus_free_ring(channel);
}
EXPORT_SYMBOL_GPL(vmbus_close);

/* ---- Sending */

/* Write one packet whose descriptor is the head of parts[0]; its id and lengths are set here. */
static int send(struct vmbus_channel *channel, struct vmpacket_descriptor *packet,
		struct kvec *parts, int count, u64 request)
{
	struct hv_ring_buffer_info *ring = &channel->outbound;
	unsigned long flags;
	u32 length = 0;
	int i;

	for (i = 0; i < count; i++)
		length += parts[i].iov_len;
	packet->offset8 = parts[0].iov_len / 8;
	packet->len8 = ALIGN(length, 8) / 8;
	packet->trans_id = request;
	if (rescinded(channel))
		return -ENODEV;
	spin_lock_irqsave(&ring->ring_lock, flags);
	if (!ring_fits(ring, length))
		goto full;
	if (packet->flags & PACKET_WANTS_COMPLETION && channel->next_request_id_callback) {
		packet->trans_id = channel->next_request_id_callback(channel, request);
		if (packet->trans_id == VMBUS_RQST_ERROR)
			goto full;
	}
	ring_write(ring, parts, count);
	spin_unlock_irqrestore(&ring->ring_lock, flags);
	host_kick(nic_of(channel));
	return 0;

full:
	spin_unlock_irqrestore(&ring->ring_lock, flags);
	host_kick(nic_of(channel));
	return -EAGAIN;
}

int vmbus_sendpacket(struct vmbus_channel *channel, void *buffer, u32 length, u64 request,
		     enum vmbus_packet_type type, u32 flags)
{
	struct vmpacket_descriptor packet = { .type = type, .flags = flags };
	struct kvec parts[] = { { &packet, sizeof(packet) }, { buffer, length } };

	return send(channel, &packet, parts, ARRAY_SIZE(parts), request);
}
EXPORT_SYMBOL_GPL(vmbus_sendpacket);

/* `pages` is a descriptor with page ranges behind it, `size` bytes of both. */
int vmbus_sendpacket_mpb_desc(struct vmbus_channel *channel, struct vmbus_packet_mpb_array *pages,
			      u32 size, void *buffer, u32 length, u64 request)
{
	struct kvec parts[] = { { pages, size }, { buffer, length } };

	pages->type = PACKET_GPA_DIRECT;
	pages->flags = PACKET_WANTS_COMPLETION;
	pages->reserved = 0;
	return send(channel, (struct vmpacket_descriptor *)pages, parts, ARRAY_SIZE(parts), request);
}
EXPORT_SYMBOL_GPL(vmbus_sendpacket_mpb_desc);

void vmbus_set_event(struct vmbus_channel *channel)
{
	host_kick(nic_of(channel));
}
EXPORT_SYMBOL_GPL(vmbus_set_event);

/* ---- From the host */

/*
 * What an interrupt does: the driver's callback with interrupts off, unless the guest masked it.
 * Bottom halves are off around it, so that the softirq which the callback raises runs when they
 * come on again; without that NAPI would sleep until the machine's next interrupt.
 */
void channel_interrupt(struct vmbus_channel *channel)
{
	unsigned long flags;

	local_bh_disable();
	spin_lock_irqsave(&channel->sched_lock, flags);
	if (channel->onchannel_callback && !READ_ONCE(channel->inbound.ring_buffer->interrupt_mask)) {
		channel->interrupts++;
		channel->onchannel_callback(channel->channel_callback_context);
	}
	spin_unlock_irqrestore(&channel->sched_lock, flags);
	local_bh_enable();
}

/* Called for each sub-channel that is offered; see subchannels.c. */
void vmbus_set_sc_create_callback(struct vmbus_channel *channel,
				  void (*callback)(struct vmbus_channel *sub))
{
	channel->sc_creation_callback = callback;
}
EXPORT_SYMBOL_GPL(vmbus_set_sc_create_callback);

void vmbus_set_chn_rescind_callback(struct vmbus_channel *channel,
				    void (*callback)(struct vmbus_channel *channel))
{
	channel->chn_rescind_callback = callback;
}
EXPORT_SYMBOL_GPL(vmbus_set_chn_rescind_callback);

// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The ring: a header page and data pages, shared by the two sides.
 *
 * The data is mapped twice in a row, so that a packet which wraps can be read and written in one
 * piece. A packet is a 16-byte descriptor, a payload padded to 8 bytes, and a trailer of 8 bytes
 * with the index at which it began in the high half. One side moves write_index, the other
 * read_index; equal means empty, so a ring is never filled to its last byte.
 */
#include <linux/vmalloc.h>

#include "lab.h"

#define TRAILER 8

int ring_init(struct hv_ring_buffer_info *ring, struct page *pages, u32 count)
{
	u32 mapped = 1 + 2 * (count - 1), i;
	struct page **map = kmalloc_array(mapped, sizeof(*map), GFP_KERNEL);
	void *at;

	if (!map)
		return -ENOMEM;
	map[0] = pages;
	for (i = 0; i < 2 * (count - 1); i++)
		map[1 + i] = pages + 1 + i % (count - 1);
	at = vmap(map, mapped, VM_MAP, PAGE_KERNEL);
	kfree(map);
	if (!at)
		return -ENOMEM;
	memset(at, 0, PAGE_SIZE);
	ring->ring_buffer = at;
	ring->ring_buffer->feature_bits.value = 1;
	ring->ring_size = count * PAGE_SIZE;
	ring->ring_datasize = ring->ring_size - sizeof(struct hv_ring_buffer);
	ring->ring_size_div10_reciprocal = reciprocal_value(ring->ring_size / 10);
	ring->priv_read_index = 0;
	return 0;
}

void ring_free(struct hv_ring_buffer_info *ring)
{
	vunmap(ring->ring_buffer);
	ring->ring_buffer = NULL;
}

/* Whether a packet of `length` bytes, descriptor included, fits now. */
bool ring_fits(const struct hv_ring_buffer_info *ring, u32 length)
{
	return hv_get_bytes_to_write(ring) > ALIGN(length, 8) + TRAILER;
}

/* Append one packet; the caller holds ring_lock and has asked ring_fits(). */
void ring_write(struct hv_ring_buffer_info *ring, const struct kvec *parts, int count)
{
	u32 began = ring->ring_buffer->write_index, at = began;
	u8 *data = ring->ring_buffer->buffer;
	u64 trailer = (u64)began << 32;
	int i;

	for (i = 0; i < count; i++) {
		memcpy(data + at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	while (at % 8)
		data[at++] = 0;
	memcpy(data + at, &trailer, TRAILER);
	at = (at + TRAILER) % ring->ring_datasize;
	smp_store_release(&ring->ring_buffer->write_index, at);
	smp_mb(); /* the other side's mask is read after it can see the packet */
}

/* The packet at read_index in place, or NULL: none there, or nonsense (then `wrong` says what). */
const struct vmpacket_descriptor *ring_peek(struct hv_ring_buffer_info *ring, const char **wrong)
{
	u32 write = smp_load_acquire(&ring->ring_buffer->write_index);
	u32 read = ring->ring_buffer->read_index, size = ring->ring_datasize, there;
	const struct vmpacket_descriptor *packet;

	*wrong = NULL;
	if (write >= size || read >= size || write % 8 || read % 8) {
		*wrong = "an index outside the ring";
		return NULL;
	}
	there = write >= read ? write - read : size - read + write;
	if (!there)
		return NULL;
	packet = (void *)(ring->ring_buffer->buffer + read);
	if (there < sizeof(*packet) + TRAILER || packet->len8 * 8 + TRAILER > there)
		*wrong = "a packet longer than what is in the ring";
	else if (packet->offset8 < 2 || packet->offset8 > packet->len8)
		*wrong = "a payload outside its packet";
	return *wrong ? NULL : packet;
}

void ring_consume(struct hv_ring_buffer_info *ring, const struct vmpacket_descriptor *packet)
{
	u32 next = ring->ring_buffer->read_index + packet->len8 * 8 + TRAILER;

	smp_store_release(&ring->ring_buffer->read_index, next % ring->ring_datasize);
}

/*
 * ---- The guest reads in place too. It keeps its own index while it goes through packets, and
 * gives the room back to the host when it is through.
 */

struct vmpacket_descriptor *hv_pkt_iter_first(struct vmbus_channel *channel)
{
	struct hv_ring_buffer_info *ring = &channel->inbound;
	u32 write = smp_load_acquire(&ring->ring_buffer->write_index);

	if (write == ring->priv_read_index)
		return NULL;
	return (void *)(ring->ring_buffer->buffer + ring->priv_read_index);
}
EXPORT_SYMBOL_GPL(hv_pkt_iter_first);

struct vmpacket_descriptor *__hv_pkt_iter_next(struct vmbus_channel *channel,
					       const struct vmpacket_descriptor *packet)
{
	struct hv_ring_buffer_info *ring = &channel->inbound;

	ring->priv_read_index += packet->len8 * 8 + TRAILER;
	ring->priv_read_index %= ring->ring_datasize;
	return hv_pkt_iter_first(channel);
}
EXPORT_SYMBOL_GPL(__hv_pkt_iter_next);

void hv_pkt_iter_close(struct vmbus_channel *channel)
{
	struct hv_ring_buffer_info *ring = &channel->inbound;

	smp_store_release(&ring->ring_buffer->read_index, ring->priv_read_index);
	smp_mb(); /* before the caller unmasks and looks whether more has come */
}
EXPORT_SYMBOL_GPL(hv_pkt_iter_close);

// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The synthetic data path: frames between the NICs, by destination MAC. A frame that comes in here
 * is delivered here, wherever the receiver's path is: hosts too let some frames come that way.
 */
#include <linux/if_vlan.h>

#include "lab.h"

#define FILTER_PROMISCUOUS 0x20

struct frame {
	struct nic *from;
	const u8 *data;
	u32 length;
	__le32 vlan;
	bool tagged;
};

static void deliver(struct nic *nic, void *data)
{
	const struct frame *frame = data;
	struct {
		struct rndis_packet packet;
		struct rndis_packet_info info;
		__le32 vlan;
	} __packed head = {
		.packet = {
			.head.type = cpu_to_le32(RNDIS_PACKET),
			.data_length = cpu_to_le32(frame->length),
		},
		.info = {
			cpu_to_le32(sizeof(struct rndis_packet_info) + sizeof(__le32)),
			cpu_to_le32(PACKET_INFO_VLAN),
			cpu_to_le32(sizeof(struct rndis_packet_info)),
		},
		.vlan = frame->vlan,
	};
	u32 size = frame->tagged ? sizeof(head) : sizeof(head.packet);
	struct kvec parts[] = { { &head, size }, { (void *)frame->data, frame->length } };

	if (nic == frame->from)
		return;
	head.packet.head.length = cpu_to_le32(size + frame->length);
	head.packet.data_offset = cpu_to_le32(size - RNDIS_HEAD);
	if (frame->tagged) {
		head.packet.info_offset = cpu_to_le32(sizeof(head.packet) - RNDIS_HEAD);
		head.packet.info_length = head.info.size;
	}
	mutex_lock(&nic->lock);
	if (nic->ready && nic->filter && nic->link && !nic->muted &&
	    (is_multicast_ether_addr(frame->data) || ether_addr_equal(frame->data, nic->mac) ||
	     nic->filter & FILTER_PROMISCUOUS)) {
		if (nic_indicate(nic, 0, parts, ARRAY_SIZE(parts), true))
			nic->received++;
		else
			nic->dropped++;
	}
	mutex_unlock(&nic->lock);
}

/* One packet of a message, `size` bytes of it. False for nonsense. */
static bool pass(struct nic *from, const u8 *message, u32 size)
{
	const struct rndis_packet *packet = (const void *)message;
	const struct rndis_packet_info *info;
	struct frame frame = { .from = from };
	u32 offset, at, left;

	if (size < sizeof(*packet) || le32_to_cpu(packet->head.type) != RNDIS_PACKET)
		return false;
	offset = le32_to_cpu(packet->data_offset);
	frame.length = le32_to_cpu(packet->data_length);
	if (offset > size - RNDIS_HEAD || frame.length > size - RNDIS_HEAD - offset ||
	    frame.length < ETH_HLEN)
		return false;
	frame.data = message + RNDIS_HEAD + offset;
	at = le32_to_cpu(packet->info_offset);
	left = le32_to_cpu(packet->info_length);
	if (left && (at > size - RNDIS_HEAD || left > size - RNDIS_HEAD - at))
		return false;
	for (at += RNDIS_HEAD; left >= sizeof(*info);) {
		info = (const void *)(message + at);
		u32 length = le32_to_cpu(info->size), value = le32_to_cpu(info->offset);

		if (length < sizeof(*info) || length > left || value > length)
			return false;
		if (le32_to_cpu(info->type) == PACKET_INFO_VLAN && length - value >= 4) {
			memcpy(&frame.vlan, (const u8 *)info + value, 4);
			frame.tagged = true;
		}
		at += length;
		left -= length;
	}
	if (from->link)
		nics_each(deliver, &frame);
	return true;
}

/* Several packets may come in one message, each at a multiple of 8. */
void switch_message(struct nic *from, const u8 *message, u32 size)
{
	u32 at = 0, length;

	while (size - at >= sizeof(struct rndis_head)) {
		length = le32_to_cpu(((const struct rndis_head *)(message + at))->length);
		if (length < sizeof(struct rndis_head) || length > size - at ||
		    !pass(from, message + at, length)) {
			violation(from, "rndis-packet", "%u bytes at %u of %u", length, at, size);
			return;
		}
		at = min(ALIGN(at + length, 8), size);
	}
}

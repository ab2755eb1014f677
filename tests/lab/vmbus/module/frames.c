// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The synthetic data path: frames out of RNDIS packets to the switch, and from it into RNDIS packets.
 */
#include <linux/if_vlan.h>

#include "lab.h"

#define FILTER_PROMISCUOUS 0x20

/* RNDIS has the same three fields of a VLAN tag in another order: priority, CFI, id upwards. */
static u32 tag_of(__le32 vlan)
{
	u32 value = le32_to_cpu(vlan);

	return (value & 7) << VLAN_PRIO_SHIFT | (value >> 3 & 1) << 12 | (value >> 4 & VLAN_VID_MASK);
}

static __le32 vlan_of(u32 tag)
{
	return cpu_to_le32(tag >> VLAN_PRIO_SHIFT | (tag >> 12 & 1) << 3 | (tag & VLAN_VID_MASK) << 4);
}

void frame_deliver(struct nic *nic, const struct frame *frame)
{
	bool tagged = frame->tag != NO_TAG;
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
		.vlan = vlan_of(frame->tag),
	};
	u32 size = tagged ? sizeof(head) : sizeof(head.packet);
	struct vmbus_channel *channel;
	struct kvec parts[] = { { &head, size }, { (void *)frame->data, frame->length } };

	head.packet.head.length = cpu_to_le32(size + frame->length);
	head.packet.data_offset = cpu_to_le32(size - RNDIS_HEAD);
	if (tagged) {
		head.packet.info_offset = cpu_to_le32(sizeof(head.packet) - RNDIS_HEAD);
		head.packet.info_length = head.info.size;
	}
	mutex_lock(&nic->lock);
	if (nic->ready && nic->filter && nic->link && !nic->muted &&
	    (is_multicast_ether_addr(frame->data) || ether_addr_equal(frame->data, nic->mac) ||
	     nic->filter & FILTER_PROMISCUOUS)) {
		channel = rss_channel(nic, frame->data, frame->length);
		if (nic_indicate(channel, 0, parts, ARRAY_SIZE(parts), true)) {
			nic->received++;
			nic->received_by[index_of(channel)]++;
		} else {
			nic->dropped++;
		}
	}
	mutex_unlock(&nic->lock);
}

/* One packet of a message, `size` bytes of it. False for nonsense. */
static bool pass(struct nic *from, const u8 *message, u32 size)
{
	const struct rndis_packet *packet = (const void *)message;
	const struct rndis_packet_info *info;
	struct frame frame = { .tag = NO_TAG };
	u32 offset, at, left;
	__le32 vlan;

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
			memcpy(&vlan, (const u8 *)info + value, 4);
			frame.tag = tag_of(vlan);
		}
		at += length;
		left -= length;
	}
	if (from->link && !link_send(from, &frame))
		from->dropped++;
	return true;
}

/* Several packets may come in one message, each at a multiple of 8. */
void frames_sent(struct nic *from, const u8 *message, u32 size)
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

// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * NVSP: the host's answers to netvsc. Versions, the two shared buffers, the envelope of RNDIS in
 * both directions, and what SR-IOV adds: the host announces a VF, the guest chooses the path.
 */
#include <linux/bitmap.h>
#include <linux/io.h>
#include <linux/mm.h>

#include "lab.h"

/* Tell the guest whether it has a VF, and of which serial; silent before it can hear. */
void nvsp_associate(struct nic *nic)
{
	struct nvsp_message message = {
		.type = cpu_to_le32(NVSP_VF_ASSOCIATION),
		.association = { cpu_to_le32(nic->associated), cpu_to_le32(nic->serial) },
	};

	if (!nic->open || !nic->send || !nic->sriov)
		return;
	if (!nic->associated && !nic->told)
		return;
	nic->told = nic->associated;
	record(nic, "association %u serial %u", nic->associated, nic->serial);
	nic_send(&nic->channel, PACKET_INBAND, 0, NULL, 0, &message, sizeof(message), false);
}

static void init(struct nic *nic, u64 tid, const struct nvsp_message *asked)
{
	u32 version = le32_to_cpu(asked->init.newest);
	bool spoken = version == NVSP_VERSION_1 ||
		      (version >= NVSP_VERSION_2 && version <= NVSP_VERSION_6_1);
	struct nvsp_message message = { .type = cpu_to_le32(NVSP_INIT_DONE) };

	if (refused(nic, NVSP_INIT))
		spoken = false;
	if (spoken)
		nic->version = version;
	record(nic, "nvsp 0x%x%s", version, spoken ? "" : " refused");
	message.init_done.version = asked->init.newest;
	message.init_done.chain = cpu_to_le32(MAX_SKB_FRAGS + 2);
	message.init_done.status = cpu_to_le32(spoken ? NVSP_OK : NVSP_FAILED);
	nic_complete(&nic->channel, tid, &message);
}

static void receive_buffer(struct nic *nic, u64 tid, const struct nvsp_message *asked)
{
	u32 handle = le32_to_cpu(asked->buffer.gpadl), size = 0;
	void *buffer = host_mapped(nic, handle, &size);
	struct nvsp_message message = { .type = cpu_to_le32(NVSP_RECEIVE_BUFFER_DONE) };
	bool fine = buffer && !nic->receive;

	if (!fine)
		violation(nic, "receive-buffer", "gpadl 0x%x is %s", handle,
			  buffer ? "the second" : "not there");
	if (refused(nic, NVSP_RECEIVE_BUFFER))
		fine = false;
	if (fine) {
		/* A frame with its RNDIS header; 1728 is what hosts take for 1500 bytes. */
		nic->section_size = max(1728u, ALIGN(nic->frame_size + 128, 64));
		nic->sections = size / nic->section_size;
		nic->taken = bitmap_zalloc(nic->sections, GFP_KERNEL);
		nic->given = kvcalloc(nic->sections, sizeof(*nic->given), GFP_KERNEL);
		nic->receive = buffer;
		nic->receive_gpadl = handle;
		if (!nic->sections || !nic->taken || !nic->given) {
			nic_unbuffer(nic, true);
			fine = false;
		}
	}
	if (fine) {
		message.receive_done.sections = cpu_to_le32(1);
		message.receive_done.size = cpu_to_le32(nic->section_size);
		message.receive_done.count = cpu_to_le32(nic->sections);
		message.receive_done.end = cpu_to_le32(nic->sections * nic->section_size);
	}
	record(nic, "receive buffer %u bytes%s", size, fine ? "" : " refused");
	message.receive_done.status = cpu_to_le32(fine ? NVSP_OK : NVSP_FAILED);
	nic_complete(&nic->channel, tid, &message);
}

static void send_buffer(struct nic *nic, u64 tid, const struct nvsp_message *asked)
{
	u32 handle = le32_to_cpu(asked->buffer.gpadl), size = 0;
	void *buffer = host_mapped(nic, handle, &size);
	struct nvsp_message message = { .type = cpu_to_le32(NVSP_SEND_BUFFER_DONE) };
	bool fine = buffer && !nic->send;

	if (!fine)
		violation(nic, "send-buffer", "gpadl 0x%x is %s", handle,
			  buffer ? "the second" : "not there");
	if (refused(nic, NVSP_SEND_BUFFER))
		fine = false;
	if (fine) {
		nic->send = buffer;
		nic->send_gpadl = handle;
		nic->send_size = size;
	}
	record(nic, "send buffer %u bytes%s", size, fine ? "" : " refused");
	message.send_done.status = cpu_to_le32(fine ? NVSP_OK : NVSP_FAILED);
	message.send_done.section_size = cpu_to_le32(SEND_SECTION);
	nic_complete(&nic->channel, tid, &message);
	nvsp_associate(nic);
}

static void switch_path(struct nic *nic, u64 tid, const struct nvsp_message *asked)
{
	bool vf = le32_to_cpu(asked->path.vf);

	if (vf && !nic->told)
		violation(nic, "path-without-vf", "switched to a VF that was never announced");
	nic->path_vf = vf;
	nic->switches++;
	record(nic, "path %s", vf ? "vf" : "synthetic");
	link_plug(nic);
	nic_complete(&nic->channel, tid, NULL);
}

/* Add `length` bytes of guest memory at page `pfn` to the message. */
static bool gather(struct nic *nic, u32 *size, u64 pfn, u32 offset, u32 length)
{
	if (*size + length > MESSAGE_MAX || offset + length > PAGE_SIZE || !pfn_valid(pfn) ||
	    PageReserved(pfn_to_page(pfn))) /* what no buffer lies in may not be mapped at all */
		return false;
	memcpy(nic->message + *size, page_address(pfn_to_page(pfn)) + offset, length);
	*size += length;
	return true;
}

/* The pages behind the descriptor: ranges of {length, offset, one pfn for each page touched}. */
static bool gather_ranges(struct nic *nic, u32 *size, const struct vmpacket_descriptor *packet)
{
	const u8 *at = (const u8 *)packet + sizeof(*packet), *end = hv_pkt_data(packet);
	u32 ranges, length, offset, part;

	if (at + 8 > end)
		return false;
	ranges = *(u32 *)(at + 4);
	for (at += 8; ranges; ranges--) {
		if (at + 8 > end)
			return false;
		length = *(u32 *)at;
		offset = *(u32 *)(at + 4);
		for (at += 8; length; length -= part, offset = 0, at += 8) {
			if (at + 8 > end)
				return false;
			if (offset >= PAGE_SIZE) /* counts from the first page of the range */
				return false;
			part = min_t(u32, length, PAGE_SIZE - offset);
			if (!gather(nic, size, *(u64 *)at, offset, part))
				return false;
		}
	}
	return true;
}

/* A 133: sub-channels, which are offered once the guest has its answer. */
static void subchannels(struct nic *nic, u64 tid, const struct nvsp_message *asked)
{
	struct nvsp_message message = { .type = cpu_to_le32(NVSP_SUBCHANNELS) };
	u32 operation = le32_to_cpu(asked->subchannels.operation);
	u32 count = le32_to_cpu(asked->subchannels.count), given = 0;

	if (operation != NVSP_ALLOCATE)
		violation(nic, "sub-channel", "operation %u", operation);
	else if (!refused(nic, NVSP_SUBCHANNELS))
		given = subs_allocate(nic, count);
	record(nic, "sub-channels %u of %u", given, count);
	message.subchannels_done.status = cpu_to_le32(given ? NVSP_OK : NVSP_FAILED);
	message.subchannels_done.count = cpu_to_le32(given);
	nic_complete(&nic->channel, tid, &message);
	if (given)
		subs_offer(nic);
}

/* A 107: a message in a section of the send buffer, in pages, or in both in this order. */
static void rndis(struct vmbus_channel *channel, const struct vmpacket_descriptor *packet,
		  const struct nvsp_message *asked)
{
	u32 section = le32_to_cpu(asked->rndis.section), length = le32_to_cpu(asked->rndis.size);
	u32 kind = le32_to_cpu(asked->rndis.channel), size = 0;
	struct nic *nic = nic_of(channel);
	struct nvsp_message message = { .type = cpu_to_le32(NVSP_RNDIS_DONE) };
	bool fine = true;

	if (section != NVSP_NO_SECTION) {
		fine = nic->send && section < nic->send_size / SEND_SECTION && length <= SEND_SECTION;
		if (fine) {
			memcpy(nic->message, nic->send + section * SEND_SECTION, length);
			size = length;
		}
	}
	if (fine && packet->type == PACKET_GPA_DIRECT)
		fine = gather_ranges(nic, &size, packet);
	if (!fine)
		violation(nic, "rndis-envelope", "section %u, %u bytes, packet type %u", section, length,
			  packet->type);
	message.rndis_done.status = cpu_to_le32(fine ? NVSP_OK : NVSP_FAILED);
	nic_complete(channel, packet->trans_id, &message);
	if (!fine)
		return;
	if (kind == NVSP_CONTROL) {
		if (index_of(channel))
			violation(nic, "sub-channel", "control message on channel %u",
				  index_of(channel));
		rndis_control(nic, nic->message, size);
		return;
	}
	nic->sent++;
	nic->sent_by[index_of(channel)]++;
	mutex_unlock(&nic->lock); /* other NICs' locks come now; the message is this thread's own */
	frames_sent(nic, nic->message, size);
	mutex_lock(&nic->lock);
}

static void message(struct vmbus_channel *channel, const struct vmpacket_descriptor *packet)
{
	const struct nvsp_message *asked = hv_pkt_data(packet);
	struct nic *nic = nic_of(channel);
	u32 type = le32_to_cpu(asked->type);

	if (hv_pkt_datalen(packet) < sizeof(*asked)) {
		violation(nic, "nvsp-size", "%u bytes", hv_pkt_datalen(packet));
		return;
	}
	if (type != NVSP_INIT && !nic->version)
		violation(nic, "nvsp-order", "message %u before the version is agreed", type);
	if (type != NVSP_RNDIS && index_of(channel)) {
		violation(nic, "sub-channel", "message %u on channel %u", type, index_of(channel));
		return;
	}
	held(nic, type);
	switch (type) {
	case NVSP_INIT:
		init(nic, packet->trans_id, asked);
		break;
	case NVSP_NDIS_CONFIG:
		nic->frame_size = le32_to_cpu(asked->ndis_config.mtu);
		nic->sriov = le64_to_cpu(asked->ndis_config.capabilities) & NDIS_CONFIG_SRIOV;
		record(nic, "ndis mtu %u sriov %u", nic->frame_size, nic->sriov);
		break;
	case NVSP_NDIS_VERSION:
		break;
	case NVSP_RECEIVE_BUFFER:
		receive_buffer(nic, packet->trans_id, asked);
		break;
	case NVSP_SEND_BUFFER:
		send_buffer(nic, packet->trans_id, asked);
		break;
	case NVSP_REVOKE_RECEIVE_BUFFER:
		if (nic->taken && !bitmap_empty(nic->taken, nic->sections))
			violation(nic, "sections-kept", "%u sections at the revocation",
				  bitmap_weight(nic->taken, nic->sections));
		nic_unbuffer(nic, true);
		break;
	case NVSP_REVOKE_SEND_BUFFER:
		nic_unbuffer(nic, false);
		break;
	case NVSP_RNDIS:
		rndis(channel, packet, asked);
		break;
	case NVSP_SWITCH_PATH:
		switch_path(nic, packet->trans_id, asked);
		break;
	case NVSP_SUBCHANNELS:
		subchannels(nic, packet->trans_id, asked);
		break;
	default:
		violation(nic, "nvsp-type", "message %u", type);
	}
}

void nvsp_packet(struct vmbus_channel *channel, const struct vmpacket_descriptor *packet)
{
	struct nic *nic = nic_of(channel);

	mutex_lock(&nic->lock);
	switch (packet->type) {
	case PACKET_INBAND:
	case PACKET_GPA_DIRECT:
		message(channel, packet);
		break;
	case PACKET_COMPLETION: /* of what nic_indicate() gave; the guest is done with it */
		nic_section_back(channel, packet->trans_id);
		break;
	default:
		violation(nic, "packet-type", "%u", packet->type);
	}
	mutex_unlock(&nic->lock);
}

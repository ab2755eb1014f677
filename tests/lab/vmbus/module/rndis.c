// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * RNDIS control messages. The NIC offloads nothing: the guest finishes checksums and cuts segments
 * itself, so the switch can pass frames on as they are.
 */
#include "lab.h"

#define SPEED 500000000 /* 50 Gbit/s, in 100 bit/s */
#define RSS_OBJECT 0x88
#define OFFLOAD_OBJECT 0xa7
#define ANSWER_MAX 512

static void answer(struct nic *nic, const void *message, u32 size, const void *more, u32 more_size)
{
	struct kvec parts[] = { { (void *)message, size }, { (void *)more, more_size } };

	nic_indicate(&nic->channel, NVSP_CONTROL, parts, ARRAY_SIZE(parts), false);
}

static struct rndis_head head_of(u32 type, u32 length)
{
	return (struct rndis_head){ cpu_to_le32(type), cpu_to_le32(length) };
}

static void init(struct nic *nic, const struct rndis_request *asked)
{
	struct rndis_init_done done = {
		.head = head_of(RNDIS_INIT | RNDIS_ANSWER, sizeof(done)),
		.id = asked->id,
		.major = cpu_to_le32(1),
		.flags = cpu_to_le32(1), /* connectionless */
		.max_packets = cpu_to_le32(8),
		.max_transfer = cpu_to_le32(MESSAGE_MAX),
		.alignment = cpu_to_le32(3), /* packets of one message begin at multiples of 8 */
	};

	if (refused(nic, RNDIS_MESSAGE + RNDIS_INIT))
		done.status = cpu_to_le32(RNDIS_FAILURE);
	nic->ready = !done.status;
	record(nic, "rndis init%s", nic->ready ? "" : " refused");
	answer(nic, &done, sizeof(done), NULL, 0);
}

/* Fill in the value of `oid`, whose buffer the guest has filled with what it asks for; its size. */
static u32 value_of(struct nic *nic, u32 oid, u8 *value, u32 given)
{
	struct ndis_rss_capabilities *rss = (void *)value;
	__le32 number;

	switch (oid) {
	case OID_PERMANENT_MAC:
	case OID_CURRENT_MAC:
		ether_addr_copy(value, nic->mac);
		return ETH_ALEN;
	case OID_FRAME_SIZE:
		number = cpu_to_le32(nic->frame_size - ETH_HLEN);
		break;
	case OID_SPEED:
		number = cpu_to_le32(SPEED);
		break;
	case OID_LINK:
		number = cpu_to_le32(!nic->link);
		break;
	case OID_RSS_CAPABILITIES:
		memset(value, 0, sizeof(*rss));
		rss->head = (struct ndis_object){ RSS_OBJECT, 2, cpu_to_le16(sizeof(*rss)) };
		if (nic->queues > 1)
			rss->capabilities = cpu_to_le32(RSS_TOEPLITZ | RSS_CAN_IPV4 | RSS_CAN_IPV6);
		rss->interrupts = cpu_to_le32(nic->queues);
		rss->queues = cpu_to_le32(nic->queues);
		rss->table = cpu_to_le16(RSS_TABLE);
		return sizeof(*rss);
	case OID_OFFLOAD_CAPABILITIES: /* none; the guest wants its own head back */
		if (given < sizeof(struct ndis_object) || value[0] != OFFLOAD_OBJECT) {
			violation(nic, "rndis-query", "offload capabilities, %u bytes", given);
			return 0;
		}
		memset(value + sizeof(struct ndis_object), 0, given - sizeof(struct ndis_object));
		return given;
	default:
		return 0;
	}
	memcpy(value, &number, sizeof(number));
	return sizeof(number);
}

static void query(struct nic *nic, const struct rndis_request *asked, u32 size)
{
	u32 oid = le32_to_cpu(asked->info.oid), given = le32_to_cpu(asked->info.length);
	u32 offset = RNDIS_HEAD + le32_to_cpu(asked->info.offset), length;
	struct rndis_done done = { .id = asked->id };
	u8 value[ANSWER_MAX] __aligned(8) = {};

	if (given > sizeof(value) || offset > size || given > size - offset) {
		violation(nic, "rndis-query", "oid 0x%08x with %u bytes at %u", oid, given, offset);
		given = 0;
	}
	memcpy(value, (u8 *)asked + offset, given);
	length = refused(nic, RNDIS_MESSAGE + RNDIS_QUERY) ? 0 : value_of(nic, oid, value, given);
	done.head = head_of(RNDIS_QUERY | RNDIS_ANSWER, sizeof(done) + length);
	done.status = cpu_to_le32(length ? RNDIS_OK : RNDIS_NOT_SUPPORTED);
	done.length = cpu_to_le32(length);
	done.offset = cpu_to_le32(length ? sizeof(done) - RNDIS_HEAD : 0);
	answer(nic, &done, sizeof(done), value, length);
}

static void set(struct nic *nic, const struct rndis_request *asked, u32 size)
{
	u32 oid = le32_to_cpu(asked->info.oid), given = le32_to_cpu(asked->info.length);
	u32 offset = RNDIS_HEAD + le32_to_cpu(asked->info.offset);
	struct rndis_done done = { .id = asked->id };
	__le32 number;

	if (refused(nic, RNDIS_MESSAGE + RNDIS_SET)) {
		done.status = cpu_to_le32(RNDIS_FAILURE);
	} else if (oid == OID_FILTER && given >= 4 && offset <= size && given <= size - offset) {
		memcpy(&number, (u8 *)asked + offset, sizeof(number));
		nic->filter = le32_to_cpu(number);
		record(nic, "filter 0x%x", nic->filter);
	} else if (oid == OID_RSS_PARAMETERS && nic->queues > 1) {
		if (offset > size || given > size - offset ||
		    !rss_set(nic, (const u8 *)asked + offset, given))
			done.status = cpu_to_le32(RNDIS_FAILURE);
	} else if (oid != OID_OFFLOADS) {
		done.status = cpu_to_le32(RNDIS_NOT_SUPPORTED);
		record(nic, "set 0x%08x not supported", oid);
	}
	done.head = head_of(RNDIS_SET | RNDIS_ANSWER, offsetof(struct rndis_done, length));
	answer(nic, &done, offsetof(struct rndis_done, length), NULL, 0);
}

void rndis_control(struct nic *nic, const u8 *message, u32 size)
{
	const struct rndis_request *asked = (const void *)message;
	struct rndis_done done = {};
	u32 type, need;

	if (size < offsetof(struct rndis_request, info)) {
		violation(nic, "rndis-size", "%u bytes", size);
		return;
	}
	type = le32_to_cpu(asked->head.type);
	if (!type && nic->polled) { /* DPDK's halt: it does not wait until the host has read it */
		record(nic, "rndis message that is gone");
		return;
	}
	need = type == RNDIS_QUERY || type == RNDIS_SET ? sizeof(*asked) :
							  offsetof(struct rndis_request, info);
	if (size < need || le32_to_cpu(asked->head.length) > size) {
		violation(nic, "rndis-size", "type %u, %u of %u bytes", type, size,
			  le32_to_cpu(asked->head.length));
		return;
	}
	held(nic, RNDIS_MESSAGE + type);
	switch (type) {
	case RNDIS_INIT:
		init(nic, asked);
		break;
	case RNDIS_HALT: /* has no answer of its own */
		nic->ready = false;
		nic->filter = 0;
		record(nic, "rndis halt");
		break;
	case RNDIS_QUERY:
		query(nic, asked, size);
		break;
	case RNDIS_SET:
		set(nic, asked, size);
		break;
	case RNDIS_KEEPALIVE:
		done.head = head_of(RNDIS_KEEPALIVE | RNDIS_ANSWER, offsetof(struct rndis_done, length));
		done.id = asked->id;
		answer(nic, &done, offsetof(struct rndis_done, length), NULL, 0);
		break;
	default:
		violation(nic, "rndis-type", "message %u", type);
	}
}

/* Tell the guest that the cable was pulled, or is back. */
void rndis_link(struct nic *nic)
{
	struct rndis_indication news = {
		.head = head_of(RNDIS_INDICATE, sizeof(news)),
		.status = cpu_to_le32(nic->link ? RNDIS_LINK_UP : RNDIS_LINK_DOWN),
	};

	record(nic, "link %s", nic->link ? "up" : "down");
	if (nic->ready)
		answer(nic, &news, sizeof(news), NULL, 0);
}

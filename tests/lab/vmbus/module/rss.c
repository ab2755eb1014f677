// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Receive side scaling: which channel a frame comes by. The guest gives a key, a table of channels and
 * what is hashed; the hash is Microsoft's (Toeplitz). IP frames that it wants hashed come by the channel
 * in the table at hash modulo entries, all others, and all before RSS is set, by the first one.
 */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/log2.h>
#include <linux/unaligned.h>

#include "lab.h"

#define INPUT_MAX 36 /* two addresses of IPv6 and two ports */

static u32 toeplitz(const u8 *key, const u8 *input, u32 size)
{
	u32 window = get_unaligned_be32(key), hash = 0, i, bit;

	BUILD_BUG_ON(INPUT_MAX + sizeof(window) > RSS_KEY);
	for (i = 0; i < size; i++)
		for (bit = 8; bit--;) {
			if (input[i] >> bit & 1)
				hash ^= window;
			window = window << 1 | (key[i + sizeof(window)] >> bit & 1);
		}
	return hash;
}

/* What is hashed of a frame: addresses, and ports where the guest wants them; 0: nothing. */
static u32 hashed(u32 wanted, const u8 *frame, u32 length, u8 *input)
{
	u32 at = ETH_HLEN, addresses, size, ports;
	bool tcp;

	switch (get_unaligned_be16(frame + 2 * ETH_ALEN)) {
	case ETH_P_IP:
		if (length < at + 20)
			return 0;
		addresses = at + 12;
		size = 8;
		ports = at + (frame[at] & 0xf) * 4;
		tcp = frame[at + 9] == IPPROTO_TCP && !(get_unaligned_be16(frame + at + 6) & 0x3fff);
		tcp = tcp && wanted & RSS_TCP_IPV4;
		if (!tcp && !(wanted & RSS_IPV4))
			return 0;
		break;
	case ETH_P_IPV6:
		if (length < at + 40)
			return 0;
		addresses = at + 8;
		size = 32;
		ports = at + 40;
		tcp = frame[at + 6] == IPPROTO_TCP && wanted & RSS_TCP_IPV6;
		if (!tcp && !(wanted & RSS_IPV6))
			return 0;
		break;
	default:
		return 0;
	}
	memcpy(input, frame + addresses, size);
	if (tcp && length >= ports + 4) {
		memcpy(input + size, frame + ports, 4);
		size += 4;
	}
	return size;
}

struct vmbus_channel *rss_channel(struct nic *nic, const u8 *frame, u32 length)
{
	u8 input[INPUT_MAX];
	u32 size = nic->rss ? hashed(nic->rss, frame, length, input) : 0, index;

	if (!size)
		return &nic->channel;
	index = nic->table[toeplitz(nic->key, input, size) % nic->table_size];
	return index ? nic->subs[index] : &nic->channel;
}

/* What the guest sets; false, with a violation, when that makes no sense. */
bool rss_set(struct nic *nic, const u8 *value, u32 size)
{
	const struct ndis_rss_parameters *asked = (const void *)value;
	u32 table_at, entries, key_at, key_size, i, entry, last = 0, opened = subs_opened(nic);

	if (size < sizeof(*asked)) {
		violation(nic, "rss", "%u bytes", size);
		return false;
	}
	table_at = le32_to_cpu(asked->table_offset);
	entries = le16_to_cpu(asked->table_size) / sizeof(__le32);
	key_at = le32_to_cpu(asked->key_offset);
	key_size = le16_to_cpu(asked->key_size);
	if (table_at > size || entries * sizeof(__le32) > size - table_at || key_at > size ||
	    key_size > size - key_at) {
		violation(nic, "rss", "table or key outside of the message");
		return false;
	}
	if (le16_to_cpu(asked->flags) & RSS_DISABLE) {
		nic->rss = 0;
		record(nic, "rss off");
		return true;
	}
	if (!entries || entries > RSS_TABLE || !is_power_of_2(entries) || key_size != RSS_KEY) {
		violation(nic, "rss", "%u entries, key of %u bytes", entries, key_size);
		return false;
	}
	for (i = 0; i < entries; i++) {
		entry = get_unaligned_le32(value + table_at + i * sizeof(__le32));
		if (entry > opened) {
			violation(nic, "rss", "entry %u is channel %u of %u", i, entry, 1 + opened);
			nic->rss = 0;
			return false;
		}
		nic->table[i] = entry;
		last = max(last, entry);
	}
	nic->table_size = entries;
	memcpy(nic->key, value + key_at, RSS_KEY);
	nic->rss = le32_to_cpu(asked->hash);
	record(nic, "rss 0x%x, %u entries to %u, key %8phN", nic->rss, entries, last, nic->key);
	return true;
}

/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What guest and host say to each other inside packets: NVSP, and RNDIS within it. Little endian.
 * The VMBus's own layouts (ring page, packet descriptor, offer) are in linux/hyperv.h.
 */
#ifndef LAB_WIRE_H
#define LAB_WIRE_H

#include <linux/types.h>

/* Packet types beside those that linux/hyperv.h names alike. */
#define PACKET_INBAND 6
#define PACKET_TRANSFER_PAGES 7
#define PACKET_GPA_DIRECT 9
#define PACKET_COMPLETION 0xb
#define PACKET_WANTS_COMPLETION 1 /* flag */

/* ---- NVSP: how netvsc sets itself up, and the envelope of RNDIS. */

#define NVSP_SIZE 40 /* a message of the versions spoken here, whatever its type */

enum nvsp_type {
	NVSP_INIT = 1,
	NVSP_INIT_DONE = 2,
	NVSP_NDIS_VERSION = 100,
	NVSP_RECEIVE_BUFFER = 101,
	NVSP_RECEIVE_BUFFER_DONE = 102,
	NVSP_REVOKE_RECEIVE_BUFFER = 103,
	NVSP_SEND_BUFFER = 104,
	NVSP_SEND_BUFFER_DONE = 105,
	NVSP_REVOKE_SEND_BUFFER = 106,
	NVSP_RNDIS = 107,
	NVSP_RNDIS_DONE = 108,
	NVSP_NDIS_CONFIG = 125,
	NVSP_VF_ASSOCIATION = 128,
	NVSP_SWITCH_PATH = 129,
	NVSP_SUBCHANNELS = 133,
};

#define NVSP_VERSION_1 0x00002
#define NVSP_VERSION_2 0x30002
#define NVSP_VERSION_6_1 0x60001

#define NVSP_OK 1
#define NVSP_FAILED 2

#define NVSP_NO_SECTION (~0u)
#define NVSP_CONTROL 1 /* channel of a 107; 0 is data */
#define NVSP_ALLOCATE 1 /* operation of a 133 */
#define NVSP_RECEIVE_SET 0xcafe /* name of the receive buffer in transfer-page packets */
#define NDIS_CONFIG_SRIOV (1ull << 2)

struct nvsp_message {
	__le32 type;
	union {
		struct {
			__le32 oldest, newest;
		} __packed init;
		struct {
			__le32 version, chain, status;
		} __packed init_done;
		struct {
			__le32 mtu, reserved; /* mtu with the Ethernet header */
			__le64 capabilities;
		} __packed ndis_config;
		struct {
			__le32 gpadl;
			__le16 id;
		} __packed buffer;
		struct {
			__le32 status, sections;
			__le32 offset, size, count, end; /* of the only section group */
		} __packed receive_done;
		struct {
			__le32 status, section_size;
		} __packed send_done;
		struct {
			__le32 channel, section, size;
		} __packed rndis;
		struct {
			__le32 status;
		} __packed rndis_done;
		struct {
			__le32 allocated, serial;
		} __packed association;
		struct {
			__le32 vf; /* 1: the VF, 0: the synthetic path */
		} __packed path;
		struct {
			__le32 operation, count;
		} __packed subchannels;
		struct {
			__le32 status, count;
		} __packed subchannels_done;
		u8 body[NVSP_SIZE - 4];
	};
} __packed;

/* ---- RNDIS. Offsets inside messages count from byte 8, after type and length. */

#define RNDIS_HEAD 8

enum rndis_type {
	RNDIS_PACKET = 1,
	RNDIS_INIT = 2,
	RNDIS_HALT = 3,
	RNDIS_QUERY = 4,
	RNDIS_SET = 5,
	RNDIS_INDICATE = 7,
	RNDIS_KEEPALIVE = 8,
	RNDIS_ANSWER = 0x80000000, /* added to the request's type */
};

#define RNDIS_OK 0
#define RNDIS_FAILURE 0xc0000001
#define RNDIS_NOT_SUPPORTED 0xc00000bb
#define RNDIS_LINK_UP 0x4001000b
#define RNDIS_LINK_DOWN 0x4001000c

enum rndis_oid {
	OID_FRAME_SIZE = 0x00010106,
	OID_SPEED = 0x00010107, /* in 100 bit/s */
	OID_FILTER = 0x0001010e,
	OID_LINK = 0x00010114, /* 0 is up */
	OID_RSS_CAPABILITIES = 0x00010203,
	OID_RSS_PARAMETERS = 0x00010204,
	OID_PERMANENT_MAC = 0x01010101,
	OID_CURRENT_MAC = 0x01010102,
	OID_OFFLOADS = 0xfc01020c,
	OID_OFFLOAD_CAPABILITIES = 0xfc01020d,
};

struct rndis_head {
	__le32 type, length;
} __packed;

struct rndis_request { /* init, halt, query, set, keep-alive */
	struct rndis_head head;
	__le32 id;
	union {
		struct {
			__le32 oid, length, offset, reserved;
		} __packed info; /* query, set */
		struct {
			__le32 major, minor, max_transfer;
		} __packed init;
	};
} __packed;

struct rndis_init_done {
	struct rndis_head head;
	__le32 id, status, major, minor, flags, medium, max_packets, max_transfer, alignment;
	__le32 reserved[2];
} __packed;

struct rndis_done { /* of a set, a keep-alive; of a query with length and offset */
	struct rndis_head head;
	__le32 id, status, length, offset;
} __packed;

struct rndis_indication {
	struct rndis_head head;
	__le32 status, length, offset;
} __packed;

struct rndis_packet {
	struct rndis_head head;
	__le32 data_offset, data_length;
	__le32 oob_offset, oob_length, oob_count;
	__le32 info_offset, info_length; /* per-packet information */
	__le32 reserved[2];
} __packed;

struct rndis_packet_info {
	__le32 size, type, offset; /* offset of the value from this header */
} __packed;

#define PACKET_INFO_VLAN 6 /* u32: priority 3 bits, CFI 1, tag 12 */

struct ndis_object { /* head of RSS and offload capabilities */
	u8 type, revision;
	__le16 size;
} __packed;

struct ndis_rss_capabilities {
	struct ndis_object head;
	__le32 capabilities, interrupts, queues;
	__le16 table;
} __packed;

#define RSS_TOEPLITZ 0x01 /* hash function, in capabilities and in hash information */
#define RSS_CAN_IPV4 0x100 /* capabilities */
#define RSS_CAN_IPV6 0x200
#define RSS_IPV4 0x100 /* hash information: by addresses, by addresses and ports of TCP */
#define RSS_TCP_IPV4 0x200
#define RSS_IPV6 0x400
#define RSS_TCP_IPV6 0x1000
#define RSS_DISABLE 0x10 /* flag */
#define RSS_KEY 40

/* Microsoft's NDIS_RECEIVE_SCALE_PARAMETERS; table and key follow, by offsets from its begin. */
struct ndis_rss_parameters {
	struct ndis_object head;
	__le16 flags, base_cpu;
	__le32 hash;
	__le16 table_size, unused; /* in bytes, four an entry */
	__le32 table_offset;
	__le16 key_size, unused_too;
	__le32 key_offset;
} __packed;

#endif

/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The two sides and what stands between them.
 *
 * Guest side: what drivers call (channel.c, gpadl.c, requestor.c, bus.c). Host side: a virtual NIC
 * per offer (host.c) that reads the outbound rings and answers (nvsp.c, rndis.c), its sub-channels
 * (subchannels.c) and which of them a frame comes by (rss.c), frames to and from the switch (frames.c,
 * link.c), and what tests see and do (record.c, control.c, faults.c). They meet in the rings (ring.c)
 * and in the few functions under "between the sides".
 */
#ifndef LAB_H
#define LAB_H

#include <linux/etherdevice.h>
#include <linux/hyperv.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uio.h> /* struct kvec */
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "wire.h"

/* ---- ring.c: both sides' packets in a ring. */

int ring_init(struct hv_ring_buffer_info *ring, struct page *pages, u32 count);
void ring_free(struct hv_ring_buffer_info *ring);
bool ring_fits(const struct hv_ring_buffer_info *ring, u32 length);
void ring_write(struct hv_ring_buffer_info *ring, const struct kvec *parts, int count);
const struct vmpacket_descriptor *ring_peek(struct hv_ring_buffer_info *ring, const char **wrong);
void ring_consume(struct hv_ring_buffer_info *ring, const struct vmpacket_descriptor *packet);

/* ---- requestor.c */

int requestor_init(struct vmbus_requestor *requestor, u32 size);
void requestor_free(struct vmbus_requestor *requestor);

/* ---- The host's side of one offer. */

#define CHANNELS_MAX 16
#define QUEUES 8 /* that a NIC has unless told otherwise; drivers take no more than there are CPUs */
#define RSS_TABLE 128 /* DPDK's PMD has no queues at all without a power of two */

struct given { /* sections that the guest has, by the first of them */
	u16 count; /* together from this one on; 0: none */
	u16 channel; /* by which it got them */
};

struct nic {
	struct list_head list;
	struct kref ref; /* the list's, and the device's */
	int number;
	u8 mac[ETH_ALEN];
	struct vmbus_channel channel; /* what the drivers see of it */
	struct hv_device device;

	struct work_struct work; /* the host's thread for this NIC */
	struct delayed_work poll; /* for those who write into the ring and tell nobody (uio) */
	struct work_struct offers; /* tells the guest's driver of its sub-channels */
	bool open; /* set and cleared by the guest's open and close */
	bool sub_open[CHANNELS_MAX]; /* the same of the sub-channels; [0] is not used */
	bool polled;
	bool broken; /* nonsense in the ring: it is not read any more, until the next open */

	/* By index; [0] is not used. Set by the NIC's thread, cleared once that has ended. */
	struct vmbus_channel *subs[CHANNELS_MAX];

	struct mutex lock; /* all below */
	struct list_head gpadls;
	u32 version, frame_size;
	bool sriov;
	void *receive; /* the guest's buffers, while they are the host's */
	u32 receive_gpadl, section_size, sections;
	unsigned long *taken; /* sections that the guest has not given back */
	struct given *given;
	void *send;
	u32 send_gpadl, send_size;
	bool ready; /* the guest said RNDIS_INIT and not yet RNDIS_HALT */
	u32 filter;
	u32 rss; /* hash information; 0: off, all comes by the first channel */
	u8 table[RSS_TABLE]; /* channels by hash */
	u32 table_size; /* a power of two, once RSS was set */
	u8 key[RSS_KEY];
	u8 *message; /* one message, put together from section and ranges */

	/* What tests set. */
	bool muted, associated, link;
	bool keep_path; /* a channel that closes leaves the path where it is */
	u32 queues; /* channels that the guest may have, the first included */
	u32 serial;
	u32 refuse; /* message whose next answer is a failure, by its NVSP type or RNDIS_MESSAGE + RNDIS type */
	u32 hold; /* message that is not answered while this stands here */
	u32 delay, delay_ms; /* message whose next answer is late */
	wait_queue_head_t let_go;

	/* What tests ask. */
	bool told; /* the association that the guest was told last */
	bool path_vf;
	u64 sent, received, dropped, switches, opens;
	u64 sent_by[CHANNELS_MAX], received_by[CHANNELS_MAX];
};

#define RNDIS_MESSAGE 1000 /* RNDIS types count from here, where NVSP's are named too */
#define MESSAGE_MAX (128 * 1024)
#define SEND_SECTION 6144

struct nic *nic_offer(const u8 *mac, u32 serial, bool associated);
int nic_rescind(int number);
void nic_rescind_all(void);
struct nic *nic_get(int number); /* with a reference */
void nic_put(struct nic *nic);
bool nic_send(struct vmbus_channel *channel, u16 type, u64 tid, const void *head, u32 head_size,
	      const void *body, u32 body_size, bool may_drop);
void nic_complete(struct vmbus_channel *channel, u64 tid, const struct nvsp_message *message);
bool nic_indicate(struct vmbus_channel *channel, u32 kind, const struct kvec *parts, int count,
		  bool may_drop);
void nic_section_back(struct vmbus_channel *channel, u64 tid);
void nic_init_channel(struct nic *nic, struct vmbus_channel *channel, u32 relid);
void nic_unbuffer(struct nic *nic, bool receive);
void nics_each(void (*each)(struct nic *nic, void *data), void *data);

int host_start(void);
void host_stop(void);

/* faults.c, nvsp.c, rndis.c: called with the NIC's lock held. */
bool refused(struct nic *nic, u32 message);
void held(struct nic *nic, u32 message); /* lets go of the lock meanwhile */
void nvsp_packet(struct vmbus_channel *channel, const struct vmpacket_descriptor *packet);
void nvsp_associate(struct nic *nic);
void rndis_control(struct nic *nic, const u8 *message, u32 size);
void rndis_link(struct nic *nic);

/* subchannels.c, rss.c; but for subs_init() and subs_end() with the NIC's lock held. */
void subs_init(struct nic *nic);
u32 subs_allocate(struct nic *nic, u32 count); /* how many the guest gets */
void subs_offer(struct nic *nic); /* those that it was told of */
u32 subs_opened(const struct nic *nic);
void subs_end(struct nic *nic); /* the NIC's thread has ended, and none is open */
bool rss_set(struct nic *nic, const u8 *value, u32 size);
struct vmbus_channel *rss_channel(struct nic *nic, const u8 *frame, u32 length);

/* ---- Frames. The switch itself is outside of the guest; called without any NIC's lock. */

struct frame {
	const u8 *data;
	u32 length;
	u32 tag; /* 802.1Q's, which travels beside the frame */
};

#define NO_TAG (~0u)

void frames_sent(struct nic *from, const u8 *message, u32 size);
void frame_deliver(struct nic *nic, const struct frame *frame);
bool link_send(struct nic *nic, const struct frame *frame);

int link_start(void);
void link_stop(void);
void link_plug(struct nic *nic); /* with the NIC's lock or without */
void link_unplug(struct nic *nic);

/* ---- record.c: for tests. */

int record_init(void);
void record_exit(void);
__printf(2, 3) void record(const struct nic *nic, const char *format, ...);
__printf(3, 4) void violation(const struct nic *nic, const char *rule, const char *format, ...);
extern struct dentry *lab_dir;
int control_init(void);

/* ---- bus.c */

int bus_init(void);
void bus_exit(void);
int bus_add(struct nic *nic);

/* ---- Between the sides. */

static inline struct nic *nic_of(struct vmbus_channel *channel)
{
	return container_of(channel->primary_channel ?: channel, struct nic, channel);
}

static inline u32 index_of(const struct vmbus_channel *channel)
{
	return channel->offermsg.offer.sub_channel_index;
}

int host_open(struct vmbus_channel *channel, bool polled);
bool host_opened(struct vmbus_channel *channel);
void host_leave(struct nic *nic); /* its rings may go */
void host_close(struct nic *nic); /* all channels */
void host_kick(struct nic *nic); /* from any context */
u32 host_map(struct nic *nic, void *buffer, u32 size);
int host_unmap(struct nic *nic, u32 handle);
void *host_mapped(struct nic *nic, u32 handle, u32 *size);
void channel_interrupt(struct vmbus_channel *channel);

#endif

// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The host's side of an offer: a virtual NIC with its own thread, which reads what the guest sends
 * and answers. Work of one NIC is never done twice at a time, so packets are answered in order.
 */
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/vmalloc.h>

#include "lab.h"

#define PACKETS_A_TURN 64
#define POLL_MS 4 /* for users that write into the ring and ring no bell */

static struct workqueue_struct *host;
static LIST_HEAD(nics);
static DEFINE_MUTEX(nics_lock);
static int next_number;
static u32 next_handle = 0xe1e10; /* never 0, never reused: a stale handle is noticed */

struct gpadl {
	struct list_head list;
	u32 handle, size;
	void *buffer;
};

/* ---- Memory that the guest lends */

u32 host_map(struct nic *nic, void *buffer, u32 size)
{
	struct gpadl *gpadl = kzalloc(sizeof(*gpadl), GFP_KERNEL);

	if (!gpadl)
		return 0;
	mutex_lock(&nic->lock);
	gpadl->handle = next_handle++;
	gpadl->size = size;
	gpadl->buffer = buffer;
	list_add(&gpadl->list, &nic->gpadls);
	mutex_unlock(&nic->lock);
	return gpadl->handle;
}

static struct gpadl *find_gpadl(struct nic *nic, u32 handle)
{
	struct gpadl *gpadl;

	list_for_each_entry(gpadl, &nic->gpadls, list)
		if (gpadl->handle == handle)
			return gpadl;
	return NULL;
}

void *host_mapped(struct nic *nic, u32 handle, u32 *size)
{
	struct gpadl *gpadl = find_gpadl(nic, handle);

	if (!gpadl)
		return NULL;
	*size = gpadl->size;
	return gpadl->buffer;
}

int host_unmap(struct nic *nic, u32 handle)
{
	struct gpadl *gpadl;

	mutex_lock(&nic->lock);
	gpadl = find_gpadl(nic, handle);
	if (!gpadl) {
		violation(nic, "bad-handle", "gpadl 0x%x torn down, which is not there", handle);
	} else {
		/* After a revocation; drivers of a rescinded or a uio channel send none. */
		if (handle == nic->receive_gpadl)
			nic_unbuffer(nic, true);
		if (handle == nic->send_gpadl)
			nic_unbuffer(nic, false);
		list_del(&gpadl->list);
		kfree(gpadl);
	}
	mutex_unlock(&nic->lock);
	return gpadl ? 0 : -EINVAL;
}

/* The guest's buffer is no longer the host's to use. */
void nic_unbuffer(struct nic *nic, bool receive)
{
	if (receive) {
		nic->receive = NULL;
		nic->receive_gpadl = 0;
		bitmap_free(nic->taken);
		nic->taken = NULL;
		kvfree(nic->given);
		nic->given = NULL;
		nic->sections = 0;
	} else {
		nic->send = NULL;
		nic->send_gpadl = 0;
		nic->send_size = 0;
	}
}

/* ---- To the guest */

/*
 * Put a packet into the inbound ring and interrupt. A guest that does not read makes the host wait,
 * but for what may be dropped; false when it did not go out.
 */
bool nic_send(struct vmbus_channel *channel, u16 type, u64 tid, const void *head, u32 head_size,
	      const void *body, u32 body_size, bool may_drop)
{
	struct hv_ring_buffer_info *ring = &channel->inbound;
	struct vmpacket_descriptor packet = {
		.type = type,
		.offset8 = (sizeof(packet) + head_size) / 8,
		.len8 = ALIGN(sizeof(packet) + head_size + body_size, 8) / 8,
		.flags = type == PACKET_TRANSFER_PAGES ? PACKET_WANTS_COMPLETION : 0,
		.trans_id = tid,
	};
	struct kvec parts[] = {
		{ &packet, sizeof(packet) },
		{ (void *)head, head_size },
		{ (void *)body, body_size },
	};
	unsigned long flags;

	while (host_opened(channel)) {
		spin_lock_irqsave(&ring->ring_lock, flags);
		if (ring_fits(ring, packet.len8 * 8)) {
			ring_write(ring, parts, ARRAY_SIZE(parts));
			spin_unlock_irqrestore(&ring->ring_lock, flags);
			channel_interrupt(channel);
			return true;
		}
		spin_unlock_irqrestore(&ring->ring_lock, flags);
		channel_interrupt(channel);
		if (may_drop)
			return false;
		usleep_range(500, 1000);
	}
	return false;
}

void nic_complete(struct vmbus_channel *channel, u64 tid, const struct nvsp_message *message)
{
	nic_send(channel, PACKET_COMPLETION, tid, NULL, 0, message, message ? sizeof(*message) : 0,
		 false);
}

/* Give the guest one RNDIS message, in as many neighbouring sections as it takes. */
bool nic_indicate(struct vmbus_channel *channel, u32 kind, const struct kvec *parts, int count,
		  bool may_drop)
{
	struct nic *nic = nic_of(channel);
	struct {
		__le16 set;
		u8 owner, reserved;
		__le32 count, length, offset;
	} __packed pages = { .set = cpu_to_le16(NVSP_RECEIVE_SET), .count = cpu_to_le32(1) };
	struct nvsp_message message = {
		.type = cpu_to_le32(NVSP_RNDIS),
		.rndis = { cpu_to_le32(kind), cpu_to_le32(NVSP_NO_SECTION), 0 },
	};
	u32 length = 0, need, first, at;
	int i;

	for (i = 0; i < count; i++)
		length += parts[i].iov_len;
	if (!nic->receive || !nic->open)
		return false;
	need = DIV_ROUND_UP(length, nic->section_size);
	first = bitmap_find_next_zero_area(nic->taken, nic->sections, 0, need, 0);
	if (first >= nic->sections) {
		if (!may_drop)
			violation(nic, "no-section", "no room for an answer of %u bytes", length);
		return false;
	}
	at = first * nic->section_size;
	pages.offset = cpu_to_le32(at);
	pages.length = cpu_to_le32(length);
	for (i = 0; i < count; i++) {
		memcpy(nic->receive + at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	bitmap_set(nic->taken, first, need);
	nic->given[first] = (struct given){ need, index_of(channel) };
	/* The id tells which sections come back; DPDK drops packets whose id is no section's number. */
	if (nic_send(channel, PACKET_TRANSFER_PAGES, first, &pages, sizeof(pages), &message,
		     sizeof(message), may_drop))
		return true;
	nic_section_back(channel, first);
	return false;
}

void nic_section_back(struct vmbus_channel *channel, u64 tid)
{
	struct nic *nic = nic_of(channel);

	if (!nic->taken)
		return;
	if (tid >= nic->sections || !nic->given[tid].count) {
		violation(nic, "bad-completion", "transaction 0x%llx is not with the guest", tid);
		return;
	}
	if (nic->given[tid].channel != index_of(channel))
		violation(nic, "bad-completion", "transaction 0x%llx came by channel %u, goes by %u",
			  tid, nic->given[tid].channel, index_of(channel));
	bitmap_clear(nic->taken, tid, nic->given[tid].count);
	nic->given[tid].count = 0;
}

/* ---- From the guest */

/* Answer up to `most` packets in the ring of one channel; how many there were. */
static int serve(struct nic *nic, struct vmbus_channel *channel, int most)
{
	struct hv_ring_buffer_info *ring = &channel->outbound;
	const struct vmpacket_descriptor *packet;
	const char *wrong = NULL;
	u32 wanted;
	int turns;

	for (turns = 0; turns < most; turns++) {
		if (!host_opened(channel) || READ_ONCE(nic->muted) || nic->broken)
			return 0;
		packet = ring_peek(ring, &wrong);
		if (!packet)
			break;
		nvsp_packet(channel, packet);
		ring_consume(ring, packet);
	}
	if (wrong) {
		violation(nic, "ring", "%s", wrong);
		nic->broken = true; /* nothing behind it can be trusted */
		return 0;
	}
	if (!turns)
		return 0;
	wanted = READ_ONCE(ring->ring_buffer->pending_send_sz);
	if (wanted && hv_get_bytes_to_write(ring) > wanted)
		channel_interrupt(channel);
	return turns;
}

/*
 * Before each packet of the first channel what is in the others: what the guest gave back there it
 * gave back before it asks here for the end of the buffer.
 */
static void host_work(struct work_struct *work)
{
	struct nic *nic = container_of(work, struct nic, work);
	bool more = false;
	int turns, i;

	for (turns = 0; turns < PACKETS_A_TURN; turns++) {
		for (i = 1; i < CHANNELS_MAX; i++)
			if (nic->subs[i])
				more |= serve(nic, nic->subs[i], PACKETS_A_TURN) == PACKETS_A_TURN;
		if (!serve(nic, &nic->channel, 1))
			break;
	}
	if (more || turns == PACKETS_A_TURN)
		queue_work(host, work);
}

static void host_poll(struct work_struct *work)
{
	struct nic *nic = container_of(to_delayed_work(work), struct nic, poll);

	host_kick(nic);
	queue_delayed_work(host, &nic->poll, msecs_to_jiffies(POLL_MS));
}

void host_kick(struct nic *nic)
{
	if (READ_ONCE(nic->open))
		queue_work(host, &nic->work);
}

bool host_opened(struct vmbus_channel *channel)
{
	struct nic *nic = nic_of(channel);
	u32 index = index_of(channel);

	return READ_ONCE(nic->open) && (!index || smp_load_acquire(&nic->sub_open[index]));
}

int host_open(struct vmbus_channel *channel, bool polled)
{
	struct nic *nic = nic_of(channel);
	u32 index = index_of(channel);
	int error = 0;

	mutex_lock(&nic->lock);
	if (index) {
		if (nic->open)
			smp_store_release(&nic->sub_open[index], true);
		else
			error = -ENODEV;
		record(nic, "open channel %u%s", index, error ? " too late" : "");
		mutex_unlock(&nic->lock);
		return error;
	}
	nic->version = 0;
	nic->sriov = false;
	nic->ready = false;
	nic->told = false;
	nic->filter = 0;
	nic->rss = 0;
	nic->table_size = 0;
	nic_unbuffer(nic, true); /* a program that was killed on uio revoked nothing */
	nic_unbuffer(nic, false);
	nic->polled = polled;
	nic->broken = false;
	nic->opens++;
	record(nic, "open%s", polled ? " polled" : "");
	WRITE_ONCE(nic->open, true);
	mutex_unlock(&nic->lock);
	if (polled)
		queue_delayed_work(host, &nic->poll, 0);
	return 0;
}

/* Afterwards the host looks at no ring of this NIC any more. */
void host_leave(struct nic *nic)
{
	WRITE_ONCE(nic->open, false);
	wake_up_all(&nic->let_go);
	cancel_delayed_work_sync(&nic->poll);
	cancel_work_sync(&nic->work);
	cancel_work_sync(&nic->offers);
	mutex_lock(&nic->lock); /* a frame from another NIC may be on its way here */
	mutex_unlock(&nic->lock);
}

void host_close(struct nic *nic)
{
	u32 i;

	host_leave(nic);
	mutex_lock(&nic->lock);
	for (i = CHANNELS_MAX - 1; i; i--)
		if (nic->sub_open[i]) {
			nic->sub_open[i] = false;
			record(nic, "close channel %u", i);
		}
	record(nic, "close%s", nic->ready ? " without halt" : "");
	nic->ready = false;
	nic->rss = 0;
	if (nic->path_vf && !nic->keep_path) {
		nic->path_vf = false;
		record(nic, "path synthetic, by close");
		link_plug(nic);
	}
	mutex_unlock(&nic->lock);
}

/* ---- Offers */

static void nic_free(struct kref *ref)
{
	struct nic *nic = container_of(ref, struct nic, ref);
	struct gpadl *gpadl, *next;

	list_for_each_entry_safe(gpadl, next, &nic->gpadls, list)
		kfree(gpadl);
	subs_end(nic); /* of a driver that left them */
	bitmap_free(nic->taken);
	kvfree(nic->given);
	kvfree(nic->message);
	kfree(nic);
}

void nic_put(struct nic *nic)
{
	kref_put(&nic->ref, nic_free);
}

/* With nics_lock held. */
static struct nic *find_nic(int number)
{
	struct nic *nic;

	list_for_each_entry(nic, &nics, list)
		if (nic->number == number)
			return nic;
	return NULL;
}

struct nic *nic_get(int number)
{
	struct nic *found;

	mutex_lock(&nics_lock);
	found = find_nic(number);
	if (found)
		kref_get(&found->ref);
	mutex_unlock(&nics_lock);
	return found;
}

void nics_each(void (*each)(struct nic *nic, void *data), void *data)
{
	struct nic *nic;

	mutex_lock(&nics_lock);
	list_for_each_entry(nic, &nics, list)
		each(nic, data);
	mutex_unlock(&nics_lock);
}

/* As on Azure, the instance's UUID is the MAC address over and over. */
static void set_instance(guid_t *guid, const u8 *mac)
{
	char text[UUID_STRING_LEN + 1];
	u8 b[16];
	int i;

	for (i = 0; i < 16; i++)
		b[i] = mac[i % ETH_ALEN];
	snprintf(text, sizeof(text), "%4phN-%2phN-%2phN-%2phN-%6phN", b, b + 4, b + 6, b + 8, b + 10);
	guid_parse(text, guid);
}

static const struct { guid_t guid; } nic_class = { HV_NIC_GUID };

void nic_init_channel(struct nic *nic, struct vmbus_channel *channel, u32 relid)
{
	guid_copy(&channel->offermsg.offer.if_type, &nic_class.guid);
	set_instance(&channel->offermsg.offer.if_instance, nic->mac);
	channel->offermsg.child_relid = relid;
	channel->offermsg.connection_id = relid;
	channel->offermsg.monitorid = 0xff; /* no monitor: every signal is a call */
	channel->device_id = HV_NIC;
	channel->state = CHANNEL_OPEN_STATE;
	channel->max_pkt_size = VMBUS_DEFAULT_MAX_PKT_SIZE;
	INIT_LIST_HEAD(&channel->sc_list);
	init_completion(&channel->rescind_event);
	spin_lock_init(&channel->sched_lock);
	spin_lock_init(&channel->requestor.req_lock);
	spin_lock_init(&channel->outbound.ring_lock);
	spin_lock_init(&channel->inbound.ring_lock);
	mutex_init(&channel->outbound.ring_buffer_mutex);
	mutex_init(&channel->inbound.ring_buffer_mutex);
	channel->probe_done = true;
}

struct nic *nic_offer(const u8 *mac, u32 serial, bool associated)
{
	struct nic *nic = kzalloc(sizeof(*nic), GFP_KERNEL);
	int error;

	if (!nic)
		return ERR_PTR(-ENOMEM);
	kref_init(&nic->ref);
	kref_get(&nic->ref); /* the device's */
	mutex_init(&nic->lock);
	init_waitqueue_head(&nic->let_go);
	INIT_LIST_HEAD(&nic->gpadls);
	INIT_WORK(&nic->work, host_work);
	INIT_DELAYED_WORK(&nic->poll, host_poll);
	subs_init(nic);
	nic->message = kvmalloc(MESSAGE_MAX, GFP_KERNEL);
	if (!nic->message) {
		kfree(nic);
		return ERR_PTR(-ENOMEM);
	}
	ether_addr_copy(nic->mac, mac);
	nic->serial = serial;
	nic->associated = associated;
	nic->link = true;
	nic->queues = QUEUES;
	mutex_lock(&nics_lock);
	nic->number = next_number++;
	list_add_tail(&nic->list, &nics);
	mutex_unlock(&nics_lock);
	nic_init_channel(nic, &nic->channel, nic->number + 1);
	record(nic, "offer %pM serial %u", mac, serial);
	link_plug(nic);
	error = bus_add(nic);
	if (error) {
		link_unplug(nic);
		mutex_lock(&nics_lock);
		list_del(&nic->list);
		mutex_unlock(&nics_lock);
		nic_put(nic);
		return ERR_PTR(error);
	}
	return nic;
}

/* Take an offer back: the guest hears of it and lets its driver go. */
int nic_rescind(int number)
{
	struct nic *nic;
	u32 i;

	mutex_lock(&nics_lock);
	nic = find_nic(number);
	if (nic)
		list_del(&nic->list);
	mutex_unlock(&nics_lock);
	if (!nic)
		return -ENODEV;
	record(nic, "rescind");
	mutex_lock(&nic->lock);
	WRITE_ONCE(nic->channel.rescind, true);
	for (i = 1; i < CHANNELS_MAX; i++)
		if (nic->subs[i])
			WRITE_ONCE(nic->subs[i]->rescind, true);
	mutex_unlock(&nic->lock);
	if (nic->channel.chn_rescind_callback) /* uio_hv_generic's, once it was opened: it does the rest */
		nic->channel.chn_rescind_callback(&nic->channel);
	else
		device_unregister(&nic->device.device);
	link_unplug(nic);
	nic_put(nic);
	return 0;
}

void nic_rescind_all(void)
{
	int number;

	for (number = 0; number < next_number; number++)
		nic_rescind(number);
}

int host_start(void)
{
	host = alloc_workqueue("vmbus_lab", WQ_UNBOUND, 0);
	return host ? 0 : -ENOMEM;
}

void host_stop(void)
{
	destroy_workqueue(host);
}

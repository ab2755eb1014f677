// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Sub-channels: more channels of one NIC, each with rings of its own, for frames alone. The guest asks
 * for a number of them when it has set itself up; the host offers them one by one, and the driver
 * opens each. They end with the first channel: its close closes them, and their offers are taken back.
 */
#include "lab.h"

static u32 next_relid = 0x1000; /* never reused */

u32 subs_opened(const struct nic *nic)
{
	u32 i, opened = 0;

	for (i = 1; i < CHANNELS_MAX; i++)
		opened += READ_ONCE(nic->sub_open[i]);
	return opened;
}

/*
 * The guest is told by a call of its own, which no lock is held for: the driver opens the channel in
 * it, and may have the NIC's thread wait meanwhile.
 */
static void offer(struct work_struct *work)
{
	struct nic *nic = container_of(work, struct nic, offers);
	void (*callback)(struct vmbus_channel *sub);
	u32 i;

	for (i = 1; i < CHANNELS_MAX && nic->subs[i]; i++) {
		callback = READ_ONCE(nic->channel.sc_creation_callback);
		if (!callback || !READ_ONCE(nic->open))
			return;
		record(nic, "offer channel %u", i);
		callback(nic->subs[i]);
	}
}

void subs_init(struct nic *nic)
{
	INIT_WORK(&nic->offers, offer);
}

void subs_offer(struct nic *nic)
{
	schedule_work(&nic->offers);
}

static void forget(struct nic *nic)
{
	u32 i;

	for (i = 1; i < CHANNELS_MAX; i++) {
		if (!nic->subs[i])
			continue;
		list_del(&nic->subs[i]->sc_list);
		kfree(nic->subs[i]);
		nic->subs[i] = NULL;
	}
}

u32 subs_allocate(struct nic *nic, u32 count)
{
	struct vmbus_channel *sub;
	u32 i;

	if (nic->polled) /* uio_hv_generic's user has no file of their rings here */
		return 0;
	if (!nic->ready || nic->subs[1] || !count || count >= nic->queues) {
		violation(nic, "sub-channel", "%u asked for, of %u%s%s", count, nic->queues - 1,
			  nic->ready ? "" : ", before RNDIS init", nic->subs[1] ? ", again" : "");
		return 0;
	}
	for (i = 1; i <= count; i++) {
		sub = kzalloc(sizeof(*sub), GFP_KERNEL);
		if (!sub) {
			forget(nic);
			return 0;
		}
		nic_init_channel(nic, sub, next_relid++);
		sub->offermsg.offer.sub_channel_index = i;
		sub->primary_channel = &nic->channel;
		sub->device_obj = &nic->device;
		list_add_tail(&sub->sc_list, &nic->channel.sc_list);
		nic->subs[i] = sub;
	}
	return count;
}

void subs_end(struct nic *nic)
{
	mutex_lock(&nic->lock);
	forget(nic);
	mutex_unlock(&nic->lock);
}

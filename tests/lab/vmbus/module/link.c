// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The way to the switch, which is in the MANA NIC's process outside of the guest: VFs are there, and
 * one rule decides for both kinds of path. A PCI device of the lab's own, see nic/hostlink.py for
 * its registers and records. Without one no frame of a synthetic NIC goes anywhere.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/pci.h>

#include "lab.h"

#define VENDOR 0x1af4
#define DEVICE 0x10f0
#define MAGIC 0x4c564d42
#define MAGIC_AT 0x00
#define AREA_AT 0x08
#define BELL_AT 0x10
#define SYNC_AT 0x14
#define RING (512u << 10)

enum kind { FILLER, PLUG, UNPLUG, FRAME };

struct record {
	__le32 length, kind, number, tag, size, reserved;
};

struct index {
	__le32 value;
	u8 unused[60];
};

struct area { /* lent to the NIC */
	struct index to_nic_write, to_nic_read, to_host_write, to_host_read;
	u8 unused[4096 - 4 * sizeof(struct index)];
	u8 to_nic[RING], to_host[RING];
};

static struct area *area;
static void __iomem *registers;
static DEFINE_MUTEX(link_lock); /* who writes to the NIC */

static u32 get(const struct index *index)
{
	return le32_to_cpu(smp_load_acquire(&index->value));
}

static void put(struct index *index, u32 value)
{
	smp_store_release(&index->value, cpu_to_le32(value));
}

/* Post one record. `certain`: wait for room, and until the NIC has acted on it. */
static bool post(enum kind kind, int number, u32 tag, const void *body, u32 size, bool certain)
{
	u32 length = ALIGN(sizeof(struct record) + size, 8), write, rest, filler;
	struct record *record;
	bool fits = false;

	BUILD_BUG_ON(offsetof(struct area, to_nic) != 4096);
	mutex_lock(&link_lock);
	while (area) {
		write = get(&area->to_nic_write);
		rest = RING - write % RING;
		filler = rest < length ? rest : 0; /* a record does not run past the end */
		fits = write - get(&area->to_nic_read) + filler + length <= RING;
		if (fits || !certain)
			break;
		usleep_range(500, 1000);
	}
	if (fits) {
		if (filler) {
			record = (void *)(area->to_nic + write % RING);
			record->length = cpu_to_le32(filler); /* it may have room for no more */
			record->kind = cpu_to_le32(FILLER);
			write += filler;
		}
		record = (void *)(area->to_nic + write % RING);
		*record = (struct record){ cpu_to_le32(length), cpu_to_le32(kind),
					   cpu_to_le32(number), cpu_to_le32(tag),
					   cpu_to_le32(size) };
		memcpy(record + 1, body, size);
		put(&area->to_nic_write, write + length);
		if (certain)
			readl(registers + SYNC_AT);
		else
			writel(1, registers + BELL_AT);
	}
	mutex_unlock(&link_lock);
	return fits;
}

/* Tell the switch of a NIC and of its path; no frame takes the other one when this returns. */
void link_plug(struct nic *nic)
{
	u8 mac[8] = {};

	ether_addr_copy(mac, nic->mac);
	post(PLUG, nic->number, nic->path_vf, mac, sizeof(mac), true);
}

void link_unplug(struct nic *nic)
{
	post(UNPLUG, nic->number, 0, NULL, 0, true);
}

bool link_send(struct nic *nic, const struct frame *frame)
{
	return post(FRAME, nic->number, frame->tag, frame->data, frame->length, false);
}

/* Frames for NICs in the guest. */
static irqreturn_t incoming(int irq, void *unused)
{
	u32 read = get(&area->to_host_read);
	const struct record *record;
	struct frame frame;
	struct nic *nic;

	while (read != get(&area->to_host_write)) {
		record = (void *)(area->to_host + read % RING);
		if (le32_to_cpu(record->kind) == FRAME) {
			frame.data = (const u8 *)(record + 1);
			frame.length = le32_to_cpu(record->size);
			frame.tag = le32_to_cpu(record->tag);
			nic = nic_get(le32_to_cpu(record->number));
			if (nic) {
				frame_deliver(nic, &frame);
				nic_put(nic);
			}
		}
		read += le32_to_cpu(record->length);
		put(&area->to_host_read, read);
	}
	return IRQ_HANDLED;
}

static int probe(struct pci_dev *device, const struct pci_device_id *id)
{
	dma_addr_t address;
	int error = pcim_enable_device(device);

	if (error)
		return error;
	registers = pcim_iomap(device, 0, 0);
	if (!registers || readl(registers + MAGIC_AT) != MAGIC)
		return -ENODEV;
	error = dma_set_mask_and_coherent(&device->dev, DMA_BIT_MASK(64));
	if (error)
		return error;
	area = dmam_alloc_coherent(&device->dev, sizeof(*area), &address, GFP_KERNEL);
	if (!area)
		return -ENOMEM;
	pci_set_master(device);
	error = pci_alloc_irq_vectors(device, 1, 1, PCI_IRQ_MSIX);
	if (error < 0)
		goto no_vector;
	error = request_threaded_irq(pci_irq_vector(device, 0), NULL, incoming, IRQF_ONESHOT,
				     "vmbus_lab", device);
	if (error)
		goto no_irq;
	writeq(address, registers + AREA_AT);
	return 0;

no_irq:
	pci_free_irq_vectors(device);
no_vector:
	area = NULL;
	return error;
}

static void remove(struct pci_dev *device)
{
	writeq(0, registers + AREA_AT);
	readl(registers + SYNC_AT); /* writes are posted: the memory is ours again after this */
	free_irq(pci_irq_vector(device, 0), device);
	pci_free_irq_vectors(device);
	mutex_lock(&link_lock);
	area = NULL;
	mutex_unlock(&link_lock);
}

static const struct pci_device_id ids[] = { { PCI_DEVICE(VENDOR, DEVICE) }, {} };

static struct pci_driver link_driver = {
	.name = "vmbus_lab",
	.id_table = ids,
	.probe = probe,
	.remove = remove,
};

int link_start(void)
{
	return pci_register_driver(&link_driver);
}

void link_stop(void)
{
	pci_unregister_driver(&link_driver);
}

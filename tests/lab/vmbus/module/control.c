// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What tests do to the host and ask it, as text files in debugfs. README.md lists the commands.
 */
#include <linux/debugfs.h>
#include <linux/hex.h>
#include <linux/seq_file.h>

#include "lab.h"

static DEFINE_MUTEX(control_lock);

/* ---- state: a line for each NIC, key=value */

/* One for each channel that the guest may have. */
static void show_counts(struct seq_file *file, const char *name, const u64 *counts)
{
	u32 i;

	seq_puts(file, name);
	for (i = 0; i < CHANNELS_MAX; i++)
		seq_printf(file, "%s%llu", i ? "," : "", counts[i]);
}

static void show_nic(struct nic *nic, void *data)
{
	struct device_driver *driver = READ_ONCE(nic->device.device.driver);
	struct seq_file *file = data;
	u32 i;

	/* Without the lock, which a host that waits for the guest may hold. */
	seq_printf(file, "nic=%d uuid=%pUl mac=%pM driver=%s", nic->number, &nic->device.dev_instance,
		   nic->mac, driver ? driver->name : "-");
	seq_printf(file, " open=%d ready=%d nvsp=0x%x path=%s told=%d associated=%d serial=%u", nic->open,
		   nic->ready, nic->version, nic->path_vf ? "vf" : "synthetic", nic->told,
		   nic->associated, nic->serial);
	seq_printf(file, " link=%d muted=%d refuse=%u hold=%u filter=0x%x", nic->link, nic->muted, nic->refuse,
		   nic->hold, nic->filter);
	seq_printf(file, " opens=%llu switches=%llu sent=%llu received=%llu dropped=%llu", nic->opens,
		   nic->switches, nic->sent, nic->received, nic->dropped);
	seq_printf(file, " queues=%u channels=%u rss=0x%x key=%40phN", nic->queues,
		   nic->open ? 1 + subs_opened(nic) : 0, nic->rss, nic->key);
	seq_puts(file, " table=");
	for (i = 0; i < nic->table_size; i++)
		seq_printf(file, "%s%u", i ? "," : "", nic->table[i]);
	show_counts(file, " sent_by=", nic->sent_by);
	show_counts(file, " received_by=", nic->received_by);
	seq_putc(file, '\n');
}

static int state_show(struct seq_file *file, void *unused)
{
	nics_each(show_nic, file);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

/* ---- control: one command a write */

static int offer(char *words)
{
	u32 serial = 0, associated = 1;
	u8 mac[ETH_ALEN];
	struct nic *nic;
	char *word;

	word = strsep(&words, " ");
	if (!word || !mac_pton(word, mac))
		return -EINVAL;
	while ((word = strsep(&words, " ")))
		if (sscanf(word, "serial=%u", &serial) != 1 &&
		    sscanf(word, "associated=%u", &associated) != 1)
			return -EINVAL;
	nic = nic_offer(mac, serial, associated);
	return PTR_ERR_OR_ZERO(nic);
}

static int set_one(struct nic *nic, const char *word)
{
	u32 value, ms;

	if (sscanf(word, "muted=%u", &value) == 1) { /* no lock: it may be held for the guest */
		record(nic, "muted %u", value);
		WRITE_ONCE(nic->muted, value);
		host_kick(nic);
		return 0;
	}
	if (sscanf(word, "hold=%u", &value) == 1) { /* the same */
		WRITE_ONCE(nic->hold, value);
		wake_up_all(&nic->let_go);
		return 0;
	}
	mutex_lock(&nic->lock);
	if (sscanf(word, "associated=%u", &value) == 1) {
		nic->associated = value;
		nvsp_associate(nic);
	} else if (sscanf(word, "serial=%u", &value) == 1) {
		nic->serial = value;
	} else if (sscanf(word, "link=%u", &value) == 1) {
		nic->link = value;
		rndis_link(nic);
	} else if (sscanf(word, "refuse=%u", &value) == 1) {
		nic->refuse = value;
	} else if (sscanf(word, "delay=%u:%u", &value, &ms) == 2) {
		nic->delay = value;
		nic->delay_ms = ms;
	} else if (sscanf(word, "queues=%u", &value) == 1 && value && value <= CHANNELS_MAX) {
		nic->queues = value; /* for the next driver that asks */
	} else if (sscanf(word, "keep_path=%u", &value) == 1) {
		nic->keep_path = value;
	} else {
		value = ~0u;
	}
	mutex_unlock(&nic->lock);
	return value == ~0u ? -EINVAL : 0;
}

static int set(char *words)
{
	char *word = strsep(&words, " ");
	struct nic *nic;
	int number, error = 0;

	if (!word || kstrtoint(word, 10, &number))
		return -EINVAL;
	nic = nic_get(number);
	if (!nic)
		return -ENODEV;
	while (!error && (word = strsep(&words, " ")))
		error = set_one(nic, word);
	nic_put(nic);
	return error;
}

static int rescind(char *words)
{
	int number;

	if (!words || kstrtoint(words, 10, &number))
		return -EINVAL;
	return nic_rescind(number);
}

static ssize_t control_write(struct file *file, const char __user *text, size_t size, loff_t *at)
{
	char line[160], *words = line, *verb;
	int error = -EINVAL;

	if (size >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, text, size))
		return -EFAULT;
	line[size] = 0;
	words = strim(line);
	verb = strsep(&words, " ");
	if (!strcmp(verb, "set"))
		return set(words) ?: size; /* without the lock: it has to work while an offer waits */
	mutex_lock(&control_lock);
	if (!strcmp(verb, "offer"))
		error = offer(words);
	else if (!strcmp(verb, "rescind"))
		error = rescind(words);
	mutex_unlock(&control_lock);
	return error ? error : size;
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = control_write,
};

int control_init(void)
{
	debugfs_create_file("state", 0400, lab_dir, NULL, &state_fops);
	debugfs_create_file("control", 0200, lab_dir, NULL, &control_fops);
	return 0;
}

// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the guest asked and what the host did, in order; and what the guest must not have done. */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "lab.h"

#define KEPT 8192 /* events; the oldest go */
#define WIDTH 72

struct event {
	u64 sequence, time; /* CLOCK_MONOTONIC, ns */
	int nic;
	char text[WIDTH];
};

static struct event events[KEPT], violations[64];
static u64 happened, violated;
static DEFINE_SPINLOCK(record_lock);
struct dentry *lab_dir;

static void note(struct event *into, u64 sequence, const struct nic *nic)
{
	into->sequence = sequence;
	into->time = ktime_get_ns();
	into->nic = nic->number;
}

void record(const struct nic *nic, const char *format, ...)
{
	struct event *event;
	unsigned long flags;
	va_list args;

	spin_lock_irqsave(&record_lock, flags);
	event = &events[happened % KEPT];
	note(event, happened++, nic);
	va_start(args, format);
	vscnprintf(event->text, WIDTH, format, args);
	va_end(args);
	spin_unlock_irqrestore(&record_lock, flags);
}

void violation(const struct nic *nic, const char *rule, const char *format, ...)
{
	struct event *event;
	unsigned long flags;
	va_list args;
	int used;

	spin_lock_irqsave(&record_lock, flags);
	if (violated < ARRAY_SIZE(violations)) {
		event = &violations[violated];
		note(event, violated, nic);
		used = scnprintf(event->text, WIDTH, "%s: ", rule);
		va_start(args, format);
		vscnprintf(event->text + used, WIDTH - used, format, args);
		va_end(args);
	}
	violated++;
	spin_unlock_irqrestore(&record_lock, flags);
	record(nic, "violation %s", rule);
}

static int show(struct seq_file *file, const struct event *from, u64 count, u64 kept)
{
	u64 at;

	for (at = count > kept ? count - kept : 0; at < count; at++) {
		struct event event;
		unsigned long flags;

		spin_lock_irqsave(&record_lock, flags);
		event = from[at % kept];
		spin_unlock_irqrestore(&record_lock, flags);
		seq_printf(file, "%llu %llu %d %s\n", event.sequence, event.time, event.nic, event.text);
	}
	return 0;
}

static int history_show(struct seq_file *file, void *unused)
{
	return show(file, events, READ_ONCE(happened), KEPT);
}
DEFINE_SHOW_ATTRIBUTE(history);

static int violations_show(struct seq_file *file, void *unused)
{
	u64 count = min_t(u64, READ_ONCE(violated), ARRAY_SIZE(violations));

	return show(file, violations, count, ARRAY_SIZE(violations));
}

static int violations_open(struct inode *inode, struct file *file)
{
	return single_open(file, violations_show, NULL);
}

static ssize_t violations_clear(struct file *file, const char __user *text, size_t size, loff_t *at)
{
	unsigned long flags;

	spin_lock_irqsave(&record_lock, flags);
	violated = 0;
	spin_unlock_irqrestore(&record_lock, flags);
	return size;
}

static const struct file_operations violations_fops = {
	.owner = THIS_MODULE,
	.open = violations_open,
	.read = seq_read,
	.write = violations_clear,
	.llseek = seq_lseek,
	.release = single_release,
};

int record_init(void)
{
	lab_dir = debugfs_create_dir("vmbus_lab", NULL);
	if (IS_ERR(lab_dir))
		return PTR_ERR(lab_dir);
	debugfs_create_file("history", 0400, lab_dir, NULL, &history_fops);
	debugfs_create_file("violations", 0600, lab_dir, NULL, &violations_fops);
	return 0;
}

void record_exit(void)
{
	debugfs_remove(lab_dir);
}

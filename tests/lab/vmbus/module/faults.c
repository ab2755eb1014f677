// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Answers spoilt on order: refused, late, or not given until somebody lets go. The NIC's thread waits
 * here without the lock, so what comes behind waits too, as it would for a slow host; frames from
 * others still come in.
 */
#include "lab.h"

/* Whether the answer to this message has to be a failure; once an order. */
bool refused(struct nic *nic, u32 message)
{
	if (nic->refuse != message)
		return false;
	nic->refuse = 0;
	record(nic, "refuse %u", message);
	return true;
}

void held(struct nic *nic, u32 message)
{
	bool late = nic->delay == message;
	u32 ms = nic->delay_ms;

	if (!late && nic->hold != message)
		return;
	record(nic, late ? "delay %u" : "hold %u", message);
	if (late)
		nic->delay = 0;
	mutex_unlock(&nic->lock);
	if (late) /* a channel that closes does not wait for it */
		wait_event_timeout(nic->let_go, !READ_ONCE(nic->open), msecs_to_jiffies(ms));
	else
		wait_event(nic->let_go, !READ_ONCE(nic->open) || READ_ONCE(nic->hold) != message);
	mutex_lock(&nic->lock);
	record(nic, "let go %u", message);
}

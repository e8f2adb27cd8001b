/*
 * What every call needs: its thread's lane, arguments checked, the right durability.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>

struct lane *holt_lane(struct holt *holt)
{
	static _Atomic unsigned threads;
	static _Thread_local unsigned number; /* of this thread, from 1 */

	if (!number)
		number = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
	return &holt->lanes[number % HOLT_LANES];
}

int holt_level(const struct holt *holt, enum holt_durability durability, enum journal_level *ret)
{
	switch (durability) {
	case HOLT_DEFAULT:
		*ret = holt->level;
		return 0;
	case HOLT_LOSSY:
		*ret = JOURNAL_LOSSY;
		return 0;
	case HOLT_PROCESS:
		*ret = JOURNAL_PROCESS;
		return 0;
	case HOLT_SYNC:
		*ret = JOURNAL_SYNC;
		return 0;
	}
	return -EINVAL;
}

int holt_commit(struct holt *holt, struct store_batch *batch, enum journal_level level)
{
	lsn_t end = 0;
	int err = store_commit(holt->store, batch, &end);

	/* A batch of guards has no end: there is nothing to wait for. */
	if (err || end == 0 || level == JOURNAL_LOSSY)
		return err;
	return store_sync(holt->store, end, level);
}

int holt_check_key(const void *key, size_t key_bytes)
{
	if (!key || key_bytes == 0)
		return -EINVAL;
	/* No move makes a key as long as a journal record. */
	return key_bytes > JOURNAL_RECORD_MAX / 2 ? -ENAMETOOLONG : 0;
}

int holt_check_new_key(const void *key, size_t key_bytes)
{
	if (!key || key_bytes == 0)
		return -EINVAL;
	return key_bytes > HOLT_KEY_MAX ? -ENAMETOOLONG : 0;
}

int holt_check_value(const void *value, size_t value_bytes)
{
	if (!value && value_bytes)
		return -EINVAL;
	return value_bytes > HOLT_VALUE_MAX ? -E2BIG : 0;
}

/*
 * What keeps a store durable, short to recover, and small.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>

int holt_sync(struct holt *holt, enum holt_durability durability)
{
	enum journal_level level;
	int err = holt ? holt_level(holt, durability, &level) : -EINVAL;

	if (err || level == JOURNAL_LOSSY)
		return err;
	return store_sync(holt->store, store_end_lsn(holt->store), level);
}

int holt_checkpoint(struct holt *holt)
{
	return holt ? store_checkpoint(holt->store) : -EINVAL;
}

int holt_compact(struct holt *holt, const void *prefix, size_t prefix_bytes,
    int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
	if (!holt || (!prefix && prefix_bytes))
		return -EINVAL;
	if (prefix_bytes > JOURNAL_RECORD_MAX / 2)
		return -ENAMETOOLONG;
	return store_compact(holt->store, prefix, (uint32_t)prefix_bytes, progress, ctx);
}

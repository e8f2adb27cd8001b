/*
 * Calls on all keys that begin with a prefix, each a transaction of its own.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>

int holt_move_prefix(struct holt *holt, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes)
{
	struct store_batch *batch;
	int err = holt ? holt_check_key(src, src_bytes) : -EINVAL;

	if (!err)
		err = holt_check_new_key(dst, dst_bytes);
	if (!err)
		err = store_batch_create(holt->store, &batch);
	if (err)
		return err;
	store_batch_require_sources(batch);
	store_batch_move_prefix(batch, src, (uint32_t)src_bytes, dst, (uint32_t)dst_bytes);
	err = holt_commit(holt, batch, holt->level);
	store_batch_destroy(batch);
	return err;
}

int holt_drop_prefix(struct holt *holt, const void *prefix, size_t prefix_bytes)
{
	struct store_batch *batch;
	int err = holt ? holt_check_key(prefix, prefix_bytes) : -EINVAL;

	if (!err)
		err = store_batch_create(holt->store, &batch);
	if (err)
		return err;
	store_batch_require_prefix_present(batch, prefix, (uint32_t)prefix_bytes);
	store_batch_drop_prefix(batch, prefix, (uint32_t)prefix_bytes);
	err = holt_commit(holt, batch, holt->level);
	store_batch_destroy(batch);
	return err;
}

int holt_is_prefix_empty(struct holt *holt, const void *prefix, size_t prefix_bytes)
{
	if (!holt || (!prefix && prefix_bytes))
		return -EINVAL;
	if (prefix_bytes > JOURNAL_RECORD_MAX / 2)
		return -ENAMETOOLONG;
	return store_is_prefix_empty(holt->store, prefix, (uint32_t)prefix_bytes);
}

/*
 * Calls on one key, each a transaction of its own.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

/* ---- reading ---------------------------------------------------------------------- */

int holt_get(struct holt *holt, const void *key, size_t key_bytes, void *value,
    size_t capacity, size_t *ret_bytes, uint64_t *ret_version)
{
	uint32_t bytes;
	uint64_t version;
	uint8_t nothing;
	int err = holt_check_key(key, key_bytes);

	if (!err && (!holt || (!value && capacity)))
		err = -EINVAL;
	if (err)
		return err;
	err = store_get(holt->store, key, (uint32_t)key_bytes, value ? value : &nothing,
	    (uint32_t)min_of(capacity, (size_t)HOLT_VALUE_MAX), &bytes, &version);
	if (err && err != -ERANGE)
		return err;
	if (ret_bytes)
		*ret_bytes = bytes;
	if (ret_version)
		*ret_version = version;
	return err;
}

int holt_get_version(struct holt *holt, const void *key, size_t key_bytes, uint64_t *ret_version)
{
	int err = holt_get(holt, key, key_bytes, NULL, 0, NULL, ret_version);

	return err == -ERANGE ? 0 : err;
}

int holt_longest_prefix(struct holt *holt, const void *key, size_t key_bytes,
    size_t *ret_key_bytes, void *value, size_t capacity, size_t *ret_bytes,
    uint64_t *ret_version)
{
	uint32_t found, bytes;
	uint64_t version;
	uint8_t nothing;
	int err = holt_check_key(key, key_bytes);

	if (!err && (!holt || (!value && capacity)))
		err = -EINVAL;
	if (err)
		return err;
	err = store_longest_prefix(holt->store, key, (uint32_t)key_bytes, &found,
	    value ? value : &nothing, (uint32_t)min_of(capacity, (size_t)HOLT_VALUE_MAX), &bytes,
	    &version);
	if (err && err != -ERANGE)
		return err;
	if (ret_key_bytes)
		*ret_key_bytes = found;
	if (ret_bytes)
		*ret_bytes = bytes;
	if (ret_version)
		*ret_version = version;
	return err;
}

int holt_get_copy(struct holt *holt, const void *key, size_t key_bytes, void **ret_value,
    size_t *ret_bytes, uint64_t *ret_version)
{
	cleanup_free void *value = NULL;
	size_t capacity = 512, bytes;
	int err;

	do {
		free(value);
		value = malloc(capacity);
		if (!value)
			return -ENOMEM;
		err = holt_get(holt, key, key_bytes, value, capacity, &bytes, ret_version);
		capacity = max_of(capacity, bytes);
	} while (err == -ERANGE);
	if (err)
		return err;
	*ret_value = steal_pointer(value);
	*ret_bytes = bytes;
	return 0;
}

/* ---- writing ---------------------------------------------------------------------- */

static int settle(struct holt *holt, int err, lsn_t end)
{
	if (err || holt->level == JOURNAL_LOSSY)
		return err;
	return store_sync(holt->store, end, holt->level);
}

static int put(struct holt *holt, const struct store_guard *guard, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes)
{
	lsn_t end = 0;
	int err = holt ? holt_check_new_key(key, key_bytes) : -EINVAL;

	if (!err)
		err = holt_check_value(value, value_bytes);
	if (err)
		return err;
	err = store_put(holt->store, key, (uint32_t)key_bytes, value, (uint32_t)value_bytes,
	    guard, &end);
	return settle(holt, err, end);
}

static int delete(struct holt *holt, const struct store_guard *guard, const void *key,
    size_t key_bytes)
{
	lsn_t end = 0;
	int err = holt ? holt_check_key(key, key_bytes) : -EINVAL;

	if (err)
		return err;
	err = store_delete(holt->store, key, (uint32_t)key_bytes, guard, &end);
	return settle(holt, err, end);
}

int holt_put(struct holt *holt, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes)
{
	return put(holt, NULL, key, key_bytes, value, value_bytes);
}

int holt_put_if_absent(struct holt *holt, const void *key, size_t key_bytes,
    const void *value, size_t value_bytes)
{
	static const struct store_guard absent = {.kind = STORE_REQUIRE_ABSENT};

	return put(holt, &absent, key, key_bytes, value, value_bytes);
}

int holt_compare_and_put(struct holt *holt, const void *key, size_t key_bytes,
    uint64_t version, const void *value, size_t value_bytes)
{
	struct store_guard same = {.kind = STORE_REQUIRE_VERSION, .version = version};

	return put(holt, &same, key, key_bytes, value, value_bytes);
}

int holt_delete(struct holt *holt, const void *key, size_t key_bytes)
{
	static const struct store_guard present = {.kind = STORE_REQUIRE_PRESENT};

	return delete(holt, &present, key, key_bytes);
}

int holt_delete_if_version(struct holt *holt, const void *key, size_t key_bytes, uint64_t version)
{
	struct store_guard same = {.kind = STORE_REQUIRE_VERSION, .version = version};

	return delete(holt, &same, key, key_bytes);
}

/* ---- renaming --------------------------------------------------------------------- */

/* Guarded by the version of what was read: -EAGAIN, if that has changed meanwhile. */
static int try_rename(struct holt *holt, struct store_batch *batch, const void *src,
    uint32_t src_bytes, const void *dst, uint32_t dst_bytes, bool is_replacing)
{
	cleanup_free void *value = NULL;
	size_t value_bytes;
	uint64_t version;
	int err = holt_get_copy(holt, src, src_bytes, &value, &value_bytes, &version);

	if (err)
		return err;
	store_batch_reset(batch);
	store_batch_require_version(batch, src, src_bytes, version);
	if (!is_replacing)
		store_batch_require_absent(batch, dst, dst_bytes);
	store_batch_delete(batch, src, src_bytes);
	store_batch_put(batch, dst, dst_bytes, value, (uint32_t)value_bytes);
	err = holt_commit(holt, batch, holt->level);
	return store_batch_failed_guard(batch) == 0 ? -EAGAIN : err;
}

static int take_batch(struct holt *holt, struct store_batch **ret)
{
	*ret = atomic_exchange_explicit(&holt_lane(holt)->batch, NULL, memory_order_acquire);
	return *ret ? 0 : store_batch_create(holt->store, ret);
}

static void leave_batch(struct holt *holt, struct store_batch *batch)
{
	if (!store_batch_is_large(batch))
		batch = atomic_exchange_explicit(&holt_lane(holt)->batch, batch, memory_order_acq_rel);
	store_batch_destroy(batch);
}

/* Onto itself: nothing to move, but it has to be there. */
static int rename_to_itself(struct holt *holt, const void *key, size_t key_bytes, bool is_replacing)
{
	int err = holt_get_version(holt, key, key_bytes, NULL);

	if (err)
		return err;
	return is_replacing ? 0 : -EEXIST;
}

int holt_rename(struct holt *holt, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes, unsigned flags)
{
	bool is_replacing = flags & HOLT_REPLACE;
	struct store_batch *batch;
	int err = holt && !(flags & ~HOLT_REPLACE) ? holt_check_key(src, src_bytes) : -EINVAL;

	if (!err)
		err = holt_check_new_key(dst, dst_bytes);
	if (err)
		return err;
	if (src_bytes == dst_bytes && memcmp(src, dst, src_bytes) == 0)
		return rename_to_itself(holt, src, src_bytes, is_replacing);
	err = take_batch(holt, &batch);
	if (err)
		return err;
	do {
		err = try_rename(holt, batch, src, (uint32_t)src_bytes, dst, (uint32_t)dst_bytes,
		    is_replacing);
	} while (err == -EAGAIN);
	leave_batch(holt, batch);
	if (!err)
		count(&holt->counters.renames);
	return err;
}

/*
 * Writing one key.
 *
 * A single put or delete is a transaction of one edit, and perhaps a guard on the same
 * key; it goes the way of batches (commit.c).
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>

static void add_guard(struct store_batch *batch, const void *key, uint32_t key_bytes,
    const struct store_guard *guard)
{
	switch (guard->kind) {
	case STORE_REQUIRE_ABSENT:
		store_batch_require_absent(batch, key, key_bytes);
		break;
	case STORE_REQUIRE_PRESENT:
		store_batch_require_present(batch, key, key_bytes);
		break;
	case STORE_REQUIRE_VERSION:
		store_batch_require_version(batch, key, key_bytes, guard->version);
		break;
	}
}

static int commit_one(struct store *store, bool is_put, const void *key, uint32_t key_bytes,
    const void *value, uint32_t value_bytes, const struct store_guard *guard, lsn_t *ret_lsn)
{
	struct store_batch *batch;
	int err = store_batch_create(store, &batch);

	if (err)
		return err;
	if (guard)
		add_guard(batch, key, key_bytes, guard);
	if (is_put)
		store_batch_put(batch, key, key_bytes, value, value_bytes);
	else
		store_batch_delete(batch, key, key_bytes);
	err = store_commit(store, batch, ret_lsn);
	store_batch_destroy(batch);
	return err;
}

int store_put(struct store *store, const void *key, uint32_t key_bytes, const void *value,
    uint32_t value_bytes, const struct store_guard *guard, lsn_t *ret_lsn)
{
	return commit_one(store, true, key, key_bytes, value, value_bytes, guard, ret_lsn);
}

int store_delete(struct store *store, const void *key, uint32_t key_bytes,
    const struct store_guard *guard, lsn_t *ret_lsn)
{
	return commit_one(store, false, key, key_bytes, NULL, 0, guard, ret_lsn);
}

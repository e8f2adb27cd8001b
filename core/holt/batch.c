/*
 * Batches: collecting operations.
 *
 * An operation that cannot be right (an empty key, a value too long) is remembered with
 * its number as the batch's error; from then on nothing more is added.  Everything that
 * depends on the store's content is found out when the batch is committed.
 */
#include "config.h"

#include "holt/batch_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

int holt_batch_create(struct holt *holt, struct holt_batch **ret)
{
	struct holt_batch *batch;
	int err;

	if (!holt || !ret)
		return -EINVAL;
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	err = store_batch_create(holt->store, &batch->store_batch);
	if (err) {
		free(batch);
		return err;
	}
	batch->holt = holt;
	batch->failed = SIZE_MAX;
	*ret = batch;
	return 0;
}

void holt_batch_destroy(struct holt_batch *batch)
{
	if (!batch)
		return;
	store_batch_destroy(batch->store_batch);
	free(batch->operations);
	free(batch->bytes);
	free(batch);
}

void holt_batch_reset(struct holt_batch *batch)
{
	batch->count = 0;
	batch->byte_count = 0;
	batch->error = 0;
	batch->move_count = 0;
	batch->failed = SIZE_MAX;
}

/* ---- adding ----------------------------------------------------------------------- */

int batch_fit(void **memory, uint32_t *size, uint64_t needed, uint32_t unit)
{
	uint64_t grown = max_of((uint64_t)*size * 2, (uint64_t)64);
	void *p;

	if (needed <= *size)
		return 0;
	grown = max_of(grown, needed);
	if (grown > UINT32_MAX)
		return -E2BIG;
	p = realloc(*memory, grown * unit);
	if (!p)
		return -ENOMEM;
	*memory = p;
	*size = (uint32_t)grown;
	return 0;
}

static void append(struct holt_batch *batch, const void *bytes, size_t count, struct piece *ret)
{
	*ret = (struct piece){.at = batch->byte_count, .bytes = (uint32_t)count};
	if (count)
		memcpy(batch->bytes + batch->byte_count, bytes, count);
	batch->byte_count += (uint32_t)count;
}

static int make_room(struct holt_batch *batch, size_t key_bytes, size_t value_bytes)
{
	uint64_t bytes = (uint64_t)batch->byte_count + key_bytes + value_bytes;
	int err;

	if (bytes > JOURNAL_RECORD_MAX)
		return -E2BIG;
	err = batch_fit((void **)&batch->bytes, &batch->byte_size, bytes, 1);
	if (err)
		return err;
	return batch_fit((void **)&batch->operations, &batch->size, (uint64_t)batch->count + 1,
	    sizeof(struct operation));
}

static void add(struct holt_batch *batch, int err, struct operation operation, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes)
{
	if (batch->error)
		return;
	if (!err && batch->move_count && operation.kind < OPERATION_MOVE_PREFIX)
		err = -EINVAL;
	if (!err)
		err = make_room(batch, key_bytes, value_bytes);
	if (err) {
		batch->error = err;
		batch->failed = batch->count;
		return;
	}
	append(batch, key, key_bytes, &operation.key);
	append(batch, value, value_bytes, &operation.value);
	batch->operations[batch->count++] = operation;
	batch->move_count += operation.kind >= OPERATION_MOVE_PREFIX;
}

static void add_put(struct holt_batch *batch, enum operation_kind kind, uint64_t version,
    const void *key, size_t key_bytes, const void *value, size_t value_bytes)
{
	int err = holt_check_new_key(key, key_bytes);

	if (!err)
		err = holt_check_value(value, value_bytes);
	add(batch, err, (struct operation){.kind = kind, .version = version}, key, key_bytes,
	    value, value_bytes);
}

static void add_key(struct holt_batch *batch, enum operation_kind kind, uint64_t version,
    const void *key, size_t key_bytes)
{
	add(batch, holt_check_key(key, key_bytes),
	    (struct operation){.kind = kind, .version = version}, key, key_bytes, NULL, 0);
}

void holt_batch_put(struct holt_batch *batch, const void *key, size_t key_bytes,
    const void *value, size_t value_bytes)
{
	add_put(batch, OPERATION_PUT, 0, key, key_bytes, value, value_bytes);
}

void holt_batch_put_if_absent(struct holt_batch *batch, const void *key, size_t key_bytes,
    const void *value, size_t value_bytes)
{
	add_put(batch, OPERATION_PUT_IF_ABSENT, 0, key, key_bytes, value, value_bytes);
}

void holt_batch_compare_and_put(struct holt_batch *batch, const void *key, size_t key_bytes,
    uint64_t version, const void *value, size_t value_bytes)
{
	add_put(batch, OPERATION_COMPARE_AND_PUT, version, key, key_bytes, value, value_bytes);
}

void holt_batch_delete(struct holt_batch *batch, const void *key, size_t key_bytes)
{
	add_key(batch, OPERATION_DELETE, 0, key, key_bytes);
}

void holt_batch_delete_if_version(struct holt_batch *batch, const void *key, size_t key_bytes,
    uint64_t version)
{
	add_key(batch, OPERATION_DELETE_IF_VERSION, version, key, key_bytes);
}

void holt_batch_rename(struct holt_batch *batch, const void *src, size_t src_bytes,
    const void *dst, size_t dst_bytes, unsigned flags)
{
	struct operation operation = {
	    .kind = OPERATION_RENAME, .is_replacing = flags & HOLT_REPLACE};
	int err = flags & ~HOLT_REPLACE ? -EINVAL : holt_check_key(src, src_bytes);

	if (!err)
		err = holt_check_new_key(dst, dst_bytes);
	add(batch, err, operation, src, src_bytes, dst, dst_bytes);
}

void holt_batch_move_prefix(struct holt_batch *batch, const void *src, size_t src_bytes,
    const void *dst, size_t dst_bytes)
{
	int err = holt_check_key(src, src_bytes);

	if (!err)
		err = holt_check_new_key(dst, dst_bytes);
	add(batch, err, (struct operation){.kind = OPERATION_MOVE_PREFIX}, src, src_bytes, dst,
	    dst_bytes);
}

void holt_batch_drop_prefix(struct holt_batch *batch, const void *prefix, size_t prefix_bytes)
{
	add_key(batch, OPERATION_DROP_PREFIX, 0, prefix, prefix_bytes);
}

void holt_batch_require_present(struct holt_batch *batch, const void *key, size_t key_bytes)
{
	add_key(batch, OPERATION_REQUIRE_PRESENT, 0, key, key_bytes);
}

void holt_batch_require_absent(struct holt_batch *batch, const void *key, size_t key_bytes)
{
	add_key(batch, OPERATION_REQUIRE_ABSENT, 0, key, key_bytes);
}

void holt_batch_require_version(struct holt_batch *batch, const void *key, size_t key_bytes,
    uint64_t version)
{
	add_key(batch, OPERATION_REQUIRE_VERSION, version, key, key_bytes);
}

void holt_batch_require_prefix_empty(struct holt_batch *batch, const void *prefix,
    size_t prefix_bytes)
{
	add_key(batch, OPERATION_REQUIRE_PREFIX_EMPTY, 0, prefix, prefix_bytes);
}

/* ---- committing ------------------------------------------------------------------- */

int holt_batch_commit(struct holt_batch *batch, enum holt_durability durability)
{
	enum journal_level level;
	int err = batch ? holt_level(batch->holt, durability, &level) : -EINVAL;

	if (err)
		return err;
	if (batch->error)
		return batch->error;
	/* Whoever made an attempt fail has got on meanwhile. */
	do {
		batch->failed = SIZE_MAX;
		err = batch_attempt(batch, level);
	} while (err == -EAGAIN);
	if (!err)
		count(&batch->holt->counters.batches);
	return err;
}

size_t holt_batch_failed(const struct holt_batch *batch)
{
	return batch ? batch->failed : SIZE_MAX;
}

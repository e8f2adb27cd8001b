/*
 * Batches: collecting operations in the form in which the journal keeps them, and
 * taking that form apart again, here and in recovery alike.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

#define KEPT_BODY_BYTES 4096u

_Static_assert(STORE_ROOM_MAX == TREE_ROOM_MAX, "they are the same");

uint32_t store_put_room(uint32_t key_bytes, uint32_t value_bytes)
{
	return image_put_room(key_bytes, value_bytes);
}

int store_batch_create(struct store *store, struct store_batch **ret)
{
	struct store_batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return -ENOMEM;
	batch->store = store;
	batch->failed_guard = UINT32_MAX;
	*ret = batch;
	return 0;
}

void store_batch_reset(struct store_batch *batch)
{
	batch->error = 0;
	batch->body_bytes = 0;
	batch->guard_bytes = 0;
	batch->uses_headroom = false;
	batch->requires_sources = false;
}

bool store_batch_is_large(const struct store_batch *batch)
{
	return batch->body_size > KEPT_BODY_BYTES || batch->guard_size > KEPT_BODY_BYTES;
}

uint32_t store_batch_failed_guard(const struct store_batch *batch)
{
	return batch->failed_guard;
}

void store_batch_require_sources(struct store_batch *batch)
{
	batch->requires_sources = true;
}

uint32_t store_batch_failed_move(const struct store_batch *batch)
{
	return batch->failed_move;
}

void store_batch_use_headroom(struct store_batch *batch)
{
	batch->uses_headroom = true;
}

void store_batch_destroy(struct store_batch *batch)
{
	if (!batch)
		return;
	free(batch->body);
	free(batch->guards);
	free(batch->tx.edits);
	free(batch->runs);
	free(batch->prefix_guards);
	free(batch->taken.bytes);
	free(batch->taken.ends);
	free(batch);
}

/* ---- adding ------------------------------------------------------------------- */

static int fit(void **memory, uint32_t *size, uint32_t needed, uint32_t unit)
{
	uint32_t grown = max_of(*size * 2, 64u);
	void *p;

	if (needed <= *size)
		return 0;
	grown = max_of(grown, needed);
	p = realloc(*memory, (size_t)grown * unit);
	if (!p)
		return -ENOMEM;
	*memory = p;
	*size = grown;
	return 0;
}

static void add_op(struct store_batch *batch, bool is_guard, unsigned type, const void *key,
    uint32_t key_bytes, const void *value, uint32_t value_bytes)
{
	uint8_t **buffer = is_guard ? &batch->guards : &batch->body;
	uint32_t *used = is_guard ? &batch->guard_bytes : &batch->body_bytes;
	uint32_t *size = is_guard ? &batch->guard_size : &batch->body_size;
	struct record_op op = {
	    .type = (uint8_t)type,
	    .key_bytes = to_le32(key_bytes),
	    .value_bytes = to_le32(value_bytes),
	};
	uint32_t bytes = (uint32_t)round_up(sizeof(op) + key_bytes + value_bytes, RECORD_OP_ALIGN);
	uint8_t *at;

	if (batch->error)
		return;
	if (bytes > JOURNAL_RECORD_MAX - *used) {
		batch->error = -E2BIG;
		return;
	}
	batch->error = fit((void **)buffer, size, *used + bytes, 1);
	if (batch->error)
		return;
	at = *buffer + *used;
	memset(at + bytes - RECORD_OP_ALIGN, 0, RECORD_OP_ALIGN);
	memcpy(at, &op, sizeof(op));
	memcpy(at + sizeof(op), key, key_bytes);
	if (value_bytes)
		memcpy(at + sizeof(op) + key_bytes, value, value_bytes);
	*used += bytes;
}

/* A key that is there may have grown by moves. */
static bool key_is_possible(struct store_batch *batch, uint32_t key_bytes)
{
	if (key_bytes == 0 && !batch->error)
		batch->error = -EINVAL;
	if (key_bytes > JOURNAL_RECORD_MAX / 2 && !batch->error)
		batch->error = -ENAMETOOLONG;
	return !batch->error;
}

static bool key_is_legal(struct store_batch *batch, uint32_t key_bytes)
{
	if (key_bytes > STORE_KEY_MAX && !batch->error)
		batch->error = -ENAMETOOLONG;
	return key_is_possible(batch, key_bytes);
}

void store_batch_put(struct store_batch *batch, const void *key, uint32_t key_bytes,
    const void *value, uint32_t value_bytes)
{
	if (value_bytes > STORE_VALUE_MAX && !batch->error)
		batch->error = -E2BIG;
	if (key_is_legal(batch, key_bytes))
		add_op(batch, false, RECORD_PUT, key, key_bytes, value, value_bytes);
}

void store_batch_delete(struct store_batch *batch, const void *key, uint32_t key_bytes)
{
	if (key_is_possible(batch, key_bytes))
		add_op(batch, false, RECORD_DELETE, key, key_bytes, NULL, 0);
}

void store_batch_require_absent(struct store_batch *batch, const void *key, uint32_t key_bytes)
{
	if (key_is_possible(batch, key_bytes))
		add_op(batch, true, TREE_REQUIRE_ABSENT, key, key_bytes, NULL, 0);
}

void store_batch_require_present(struct store_batch *batch, const void *key, uint32_t key_bytes)
{
	if (key_is_possible(batch, key_bytes))
		add_op(batch, true, TREE_REQUIRE_PRESENT, key, key_bytes, NULL, 0);
}

void store_batch_require_version(struct store_batch *batch, const void *key,
    uint32_t key_bytes, uint64_t version)
{
	if (key_is_possible(batch, key_bytes))
		add_op(batch, true, TREE_REQUIRE_VERSION, key, key_bytes, &version, sizeof(version));
}

void store_batch_require_prefix_empty(struct store_batch *batch, const void *prefix, uint32_t prefix_bytes)
{
	if (key_is_possible(batch, prefix_bytes))
		add_op(batch, true, GUARD_PREFIX_EMPTY, prefix, prefix_bytes, NULL, 0);
}

void store_batch_require_prefix_present(struct store_batch *batch, const void *prefix, uint32_t prefix_bytes)
{
	if (key_is_possible(batch, prefix_bytes))
		add_op(batch, true, GUARD_PREFIX_PRESENT, prefix, prefix_bytes, NULL, 0);
}

void store_batch_drop_prefix(struct store_batch *batch, const void *prefix, uint32_t prefix_bytes)
{
	static const uint8_t number[sizeof(uint64_t)]; /* given when it is applied */

	if (key_is_legal(batch, prefix_bytes))
		add_op(batch, false, RECORD_DROP_PREFIX, prefix, prefix_bytes, number, sizeof(number));
}

void batch_erase_dropped(struct store_batch *batch, uint32_t count)
{
	le32 key = to_le32(count);

	add_op(batch, false, RECORD_ERASE_DROPPED, &key, sizeof(key), NULL, 0);
}

void store_batch_move_prefix(struct store_batch *batch, const void *src,
    uint32_t src_bytes, const void *dst, uint32_t dst_bytes)
{
	if (key_is_legal(batch, src_bytes) && key_is_legal(batch, dst_bytes))
		add_op(batch, false, RECORD_MOVE_PREFIX, src, src_bytes, dst, dst_bytes);
}

void store_batch_use_blocks(struct store_batch *batch, uint64_t block, uint32_t count,
    const uint32_t *checksums)
{
	le64 key = to_le64(block);
	le32 *sums = malloc(count * sizeof(*sums));

	if (!sums) {
		batch->error = batch->error ? batch->error : -ENOMEM;
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		sums[i] = to_le32(checksums[i]);
	add_op(batch, false, RECORD_USE_BLOCKS, &key, sizeof(key), sums, count * sizeof(*sums));
	free(sums);
}

void store_batch_free_blocks(struct store_batch *batch, uint64_t block, uint32_t count)
{
	le64 key = to_le64(block);
	le32 value = to_le32(count);

	add_op(batch, false, RECORD_FREE_BLOCKS, &key, sizeof(key), &value, sizeof(value));
}

/* ---- parsing ------------------------------------------------------------------- */

int batch_add_edit(struct store_batch *batch, struct tree_edit edit)
{
	int err = fit((void **)&batch->tx.edits, &batch->edit_size, batch->tx.edit_count + 1,
	    sizeof(edit));

	if (!err)
		batch->tx.edits[batch->tx.edit_count++] = edit;
	return err;
}

static int add_run(struct store_batch *batch, const struct record_op *op, const uint8_t *key,
    const uint8_t *value)
{
	struct block_run run = {.is_use = op->type == RECORD_USE_BLOCKS};
	uint32_t value_bytes = from_le32(op->value_bytes);
	le64 block;
	le32 count;
	int err;

	if (from_le32(op->key_bytes) != sizeof(block) || value_bytes == 0 ||
	    value_bytes % sizeof(le32) || (!run.is_use && value_bytes != sizeof(count)))
		return -EUCLEAN;
	memcpy(&block, key, sizeof(block));
	memcpy(&count, value, sizeof(count));
	run.block = from_le64(block);
	run.count = run.is_use ? value_bytes / (uint32_t)sizeof(le32) : from_le32(count);
	run.checksums = value;
	err = fit((void **)&batch->runs, &batch->run_size, batch->run_count + 1, sizeof(run));
	if (!err)
		batch->runs[batch->run_count++] = run;
	return err;
}

static int add_move(struct store_batch *batch, const struct record_op *op, const uint8_t *key,
    const uint8_t *value)
{
	bool is_drop = op->type == RECORD_DROP_PREFIX;

	if (batch->move_count == BATCH_MOVES_MAX)
		return -E2BIG;
	if (is_drop && from_le32(op->value_bytes) != sizeof(uint64_t))
		return -EUCLEAN;
	batch->moves[batch->move_count++] = (struct tree_move){
	    .dst_tree = is_drop ? &batch->store->internal : NULL,
	    .src = key,
	    .src_bytes = from_le32(op->key_bytes),
	    .dst = value,
	    .dst_bytes = from_le32(op->value_bytes),
	    .src_slot = POOL_NO_SLOT,
	    .dst_slot = POOL_NO_SLOT,
	};
	return 0;
}

static int add_erase(struct store_batch *batch, const struct record_op *op, const uint8_t *key)
{
	le32 count;

	if (from_le32(op->key_bytes) != sizeof(count) || batch->erase_count)
		return -EUCLEAN;
	memcpy(&count, key, sizeof(count));
	batch->erase_count = from_le32(count);
	return batch->erase_count ? 0 : -EUCLEAN;
}

static int add_parsed(struct store_batch *batch, const struct record_op *op, const uint8_t *key,
    const uint8_t *value, uint32_t offset)
{
	struct tree_edit edit = {
	    .kind = op->type == RECORD_PUT ? TREE_PUT : TREE_ERASE,
	    .key = key,
	    .value = value,
	    .key_bytes = from_le32(op->key_bytes),
	    .value_bytes = from_le32(op->value_bytes),
	    .seq_offset = offset,
	};

	switch (op->type) {
	case RECORD_PUT:
	case RECORD_DELETE:
		if (!edit.key_bytes || edit.value_bytes > STORE_VALUE_MAX ||
		    (op->type == RECORD_PUT && edit.key_bytes > STORE_KEY_MAX))
			return -EUCLEAN;
		return batch_add_edit(batch, edit);
	case RECORD_ERASE_DROPPED:
		return add_erase(batch, op, key);
	case RECORD_MOVE_PREFIX:
	case RECORD_DROP_PREFIX:
		return add_move(batch, op, key, value);
	case RECORD_USE_BLOCKS:
	case RECORD_FREE_BLOCKS:
		return add_run(batch, op, key, value);
	default:
		return -EUCLEAN;
	}
}

static int add_prefix_guard(struct store_batch *batch, const struct record_op *op, const uint8_t *key)
{
	struct prefix_guard guard = {
	    .prefix = key,
	    .prefix_bytes = from_le32(op->key_bytes),
	    .number = batch->tx.edit_count + batch->prefix_guard_count,
	    .is_present = op->type == GUARD_PREFIX_PRESENT,
	};
	int err = fit((void **)&batch->prefix_guards, &batch->prefix_guard_size,
	    batch->prefix_guard_count + 1, sizeof(guard));

	if (!err)
		batch->prefix_guards[batch->prefix_guard_count++] = guard;
	return err;
}

static int add_guard(struct store_batch *batch, const struct record_op *op, const uint8_t *key,
    const uint8_t *value)
{
	struct tree_edit edit = {
	    .kind = (enum tree_edit_kind)op->type,
	    .key = key,
	    .key_bytes = from_le32(op->key_bytes),
	};

	if (op->type == GUARD_PREFIX_EMPTY || op->type == GUARD_PREFIX_PRESENT)
		return add_prefix_guard(batch, op, key);
	if (edit.kind == TREE_REQUIRE_VERSION)
		memcpy(&edit.version, value, sizeof(edit.version));
	return batch_add_edit(batch, edit);
}

static int parse_ops(struct store_batch *batch, const uint8_t *body, uint32_t body_bytes, bool are_guards)
{
	uint32_t at = 0;
	int err = 0;

	while (!err && at < body_bytes) {
		const uint8_t *key = body + at + sizeof(struct record_op);
		uint64_t bytes;
		struct record_op op;

		if (body_bytes - at < sizeof(op))
			return -EUCLEAN;
		memcpy(&op, body + at, sizeof(op));
		bytes = (uint64_t)from_le32(op.key_bytes) + from_le32(op.value_bytes) + sizeof(op);
		if (round_up(bytes, RECORD_OP_ALIGN) > body_bytes - at)
			return -EUCLEAN;
		if (are_guards)
			err = add_guard(batch, &op, key, key + from_le32(op.key_bytes));
		else
			err = add_parsed(batch, &op, key, key + from_le32(op.key_bytes), at);
		at += (uint32_t)round_up(bytes, RECORD_OP_ALIGN);
	}
	return err;
}

int batch_parse(struct store_batch *batch, const uint8_t *body, uint32_t body_bytes)
{
	uint32_t guards;
	int err;

	batch->tree = &batch->store->tree;
	batch->tx.edit_count = 0;
	batch->prefix_guard_count = 0;
	batch->erase_count = 0;
	batch->move_count = 0;
	batch->run_count = 0;
	/* Guards first: they look at the state before the batch. */
	err = parse_ops(batch, batch->guards, batch->guard_bytes, true);
	guards = batch->tx.edit_count;
	if (!err)
		err = parse_ops(batch, body, body_bytes, false);
	if (err || !batch->erase_count)
		return err;
	/* The erasing of dropped keys comes alone, but for blocks that it frees. */
	batch->tree = &batch->store->internal;
	return guards || batch->tx.edit_count || batch->move_count ? -EUCLEAN : 0;
}

unsigned batch_contents(const uint8_t *body, uint32_t body_bytes)
{
	unsigned contents = 0;
	uint64_t at = 0;

	while (at < body_bytes) {
		struct record_op op;

		if (body_bytes - at < sizeof(op))
			return contents | BATCH_HAS_OTHER;
		memcpy(&op, body + at, sizeof(op));
		if (op.type == RECORD_USE_BLOCKS || op.type == RECORD_FREE_BLOCKS)
			contents |= BATCH_HAS_RUNS;
		else if (op.type != RECORD_PUT && op.type != RECORD_DELETE)
			contents |= BATCH_HAS_OTHER;
		at += round_up((uint64_t)from_le32(op.key_bytes) + from_le32(op.value_bytes) + sizeof(op),
		    RECORD_OP_ALIGN);
	}
	return contents;
}

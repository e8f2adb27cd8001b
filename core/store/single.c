/*
 * Writing one key.
 *
 * A single put or delete is a transaction of one edit, and perhaps a guard on the same
 * key.  What is in its way is nearly always nothing: the frame is in memory, dirty in
 * this epoch and has room, and so has the journal.  Then
 *
 *    find the frame, latched        tree_single_latch()
 *    append the record              op, key, value: from where they are
 *    apply, unlatch
 *
 * in one pass through the gate, with journal credit taken before: the same steps in the
 * same order as a batch's, without collecting, parsing, and promising anything.
 * Whatever is missing is left to a batch of one (commit.c), which knows how to wait.
 *
 * A delete of what is absent changes nothing and is not logged.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>

static enum tree_edit_kind tree_guard(enum store_guard_kind kind)
{
	switch (kind) {
	case STORE_REQUIRE_ABSENT:
		return TREE_REQUIRE_ABSENT;
	case STORE_REQUIRE_PRESENT:
		return TREE_REQUIRE_PRESENT;
	default:
		return TREE_REQUIRE_VERSION;
	}
}

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

/* The slow way. */
static int commit_batch(struct store *store, const struct tree_single *single,
    const struct store_guard *guard, lsn_t *ret_lsn)
{
	struct store_batch *batch;
	int err = store_batch_create(store, &batch);

	if (err)
		return err;
	if (guard)
		add_guard(batch, single->key, single->key_bytes, guard);
	if (single->kind == TREE_PUT)
		store_batch_put(batch, single->key, single->key_bytes, single->value, single->value_bytes);
	else
		store_batch_delete(batch, single->key, single->key_bytes);
	err = store_commit(store, batch, ret_lsn);
	store_batch_destroy(batch);
	return err;
}

static uint32_t padding_of(const struct tree_single *single)
{
	uint64_t bytes = sizeof(struct record_op) + single->key_bytes + single->value_bytes;

	return (uint32_t)(round_up(bytes, RECORD_OP_ALIGN) - bytes);
}

static uint32_t body_bytes_of(const struct tree_single *single)
{
	return (uint32_t)sizeof(struct record_op) + single->key_bytes + single->value_bytes +
	       padding_of(single);
}

/* The record of the edit; as store_batch_put() makes it. */
static lsn_t log_single(struct store *store, const struct tree_single *single, lsn_t *ret_end)
{
	static const uint8_t zeros[RECORD_OP_ALIGN];
	struct record_op op = {
	    .type = single->kind == TREE_PUT ? RECORD_PUT : RECORD_DELETE,
	    .key_bytes = to_le32(single->key_bytes),
	    .value_bytes = to_le32(single->value_bytes),
	};
	struct iovec body[] = {
	    {&op, sizeof(op)},
	    {(void *)single->key, single->key_bytes},
	    {(void *)single->value, single->value_bytes},
	    {(void *)zeros, padding_of(single)},
	};

	if (store->is_memory)
		return memory_log(store, body_bytes_of(single), ret_end);
	return journal_append(store->journal, JOURNAL_BATCH, body, ARRAY_COUNT(body), ret_end);
}

/* More than a log holds, and than all threads log while one passes the gate. */
#define VERSION_MARGIN (1ull << 40)

/* No version given meanwhile is above.  Counted from where the log begins: where it ends
 * is what all threads write, and whoever reads it waits for them. */
static uint64_t version_bound(struct store *store)
{
	return (store->journal ? journal_tail(store->journal) : store_end_lsn(store)) + VERSION_MARGIN;
}

/* 1: the key to be deleted is absent, nothing was logged. */
static int pass_gate(struct store *store, struct tree_single *single, lsn_t *ret_end)
{
	unsigned ticket = gate_enter_shared(store->gate);
	int err;

	single->version_most = version_bound(store);
	err = tree_single_latch(&store->tree, single);

	if (!err && single->kind == TREE_ERASE && single->path.result != IMAGE_FOUND) {
		*ret_end = store_end_lsn(store);
		tree_single_unlatch(&store->tree, single);
		err = 1;
	} else if (!err) {
		tree_single_apply(&store->tree, single, log_single(store, single, ret_end));
	}
	gate_leave_shared(store->gate, ticket);
	return err;
}

/* -EAGAIN: not this way. */
static int pass(struct store *store, struct tree_single *single, lsn_t *ret_end)
{
	uint32_t body_bytes = body_bytes_of(single);
	int err = store->journal ? journal_reserve(store->journal, body_bytes) : 0;

	if (err)
		return err;
	err = pass_gate(store, single, ret_end);
	if (err && store->journal)
		journal_unreserve(store->journal, body_bytes);
	return min_of(err, 0);
}

/* The key's frame has become thin. */
static void fold_after(struct store *store, const struct tree_single *single)
{
	struct tree_spares *spares = malloc(sizeof(*spares));

	if (!spares)
		return;
	spares->count = 0;
	store_promise_begin(true);
	store_shrink(store, &store->tree, single->key, single->key_bytes, spares);
	store_return_spares(store, spares);
	store_promise_end(store);
	free(spares);
}

static bool is_answer(int err)
{
	return err == 0 || err == -EEXIST || err == -ENOENT || err == -ESTALE;
}

static int commit_one(struct store *store, struct tree_single *single,
    const struct store_guard *guard, lsn_t *ret_lsn)
{
	lsn_t end = 0;
	int err;

	if (store_is_read_only(store))
		return -EROFS;
	err = store_throttle(store);
	if (err)
		return err;
	if (guard) {
		single->guard = tree_guard(guard->kind);
		single->guard_version = guard->version;
	}
	err = pass(store, single, &end);
	/* Errors are left to the batch too: it knows what is final. */
	if (!is_answer(err))
		return commit_batch(store, single, guard, ret_lsn);
	if (err) {
		atomic_fetch_add_explicit(&store->stats.guards_failed, 1, memory_order_relaxed);
		return err;
	}
	store_count_commit(store, single->kind == TREE_PUT, single->kind == TREE_ERASE);
	if (single->wants_shrink && !store->options.no_merge)
		fold_after(store, single);
	if (ret_lsn)
		*ret_lsn = end;
	drop_step_inline(store);
	return 0;
}

int store_put(struct store *store, const void *key, uint32_t key_bytes, const void *value,
    uint32_t value_bytes, const struct store_guard *guard, lsn_t *ret_lsn)
{
	struct tree_single single = {
	    .kind = TREE_PUT,
	    .guard = TREE_PUT,
	    .key = key,
	    .key_bytes = key_bytes,
	    .value = value,
	    .value_bytes = value_bytes,
	};

	if (key_bytes == 0)
		return -EINVAL;
	if (key_bytes > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	if (value_bytes > STORE_VALUE_MAX)
		return -E2BIG;
	return commit_one(store, &single, guard, ret_lsn);
}

int store_delete(struct store *store, const void *key, uint32_t key_bytes,
    const struct store_guard *guard, lsn_t *ret_lsn)
{
	struct tree_single single = {
	    .kind = TREE_ERASE,
	    .guard = TREE_PUT,
	    .key = key,
	    .key_bytes = key_bytes,
	};

	if (key_bytes == 0)
		return -EINVAL;
	if (key_bytes > JOURNAL_RECORD_MAX / 2)
		return -ENAMETOOLONG;
	return commit_one(store, &single, guard, ret_lsn);
}

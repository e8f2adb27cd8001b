/*
 * Committing a batch whose operations see one another.
 *
 * The store's own batches name each key once, and their guards look at the state before
 * the batch.  So the keys are sorted and numbered, and the operations gone through in
 * their order, keeping for each key what is known of it:
 *
 *	nothing yet              the store decides: its condition becomes a guard
 *	a guard was passed on    absent, present, or at a version, if the commit succeeds
 *	written by this batch    there or not, for certain
 *
 * What can be decided here is decided here; of several writes of a key the last one is
 * made.  A rename reads its source from the operations before it or from the store; what
 * the store said is guarded too, by a guard of ours: should it fail, the store has
 * changed meanwhile, and the whole attempt is made again.
 *
 * An operation that fails for certain fails only if those before it do not.  So the
 * guards before it are committed alone, as a batch that changes nothing; if they hold, it
 * was this one.  The store tries guards in the order of the operations, hence the first
 * that fails is the one that is told.
 *
 * Memory: an attempt has arrays of its own for keys and guards, and copies of values that
 * renames have read.
 */
#include "config.h"

#include "holt/batch_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* What is known of a key. */
enum knowledge { UNKNOWN, ABSENT, PRESENT, VERSION_KNOWN };

struct key_state {
	const uint8_t *key;
	uint32_t key_bytes;
	enum knowledge known; /* from guards passed on */
	uint64_t version;     /* VERSION_KNOWN */
	bool is_written;
	bool is_there; /* is_written */
	bool is_final; /* its deletion was counted on */
	const uint8_t *value;
	uint32_t value_bytes;
};

/* A key as an operation names it. */
struct mention {
	const uint8_t *key;
	uint32_t key_bytes;
	uint32_t *id; /* where its number goes */
};

struct read_value {
	struct read_value *next;
	uint8_t bytes[];
};

/* A guard in the store's batch: whose it is. */
struct guard {
	uint32_t operation;
	bool is_ours;
};

struct attempt {
	struct holt_batch *batch;
	struct store_batch *store_batch;
	struct key_state *keys;
	uint32_t key_count;
	struct guard *guards;
	uint32_t guard_count, guard_size;
	struct read_value *values;
};

/* ---- numbering keys --------------------------------------------------------------- */

static int compare_keys(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes)
{
	int order = memcmp(a, b, min_of(a_bytes, b_bytes));

	if (order)
		return order;
	return a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

static int compare_mentions(const void *a, const void *b)
{
	const struct mention *x = a, *y = b;

	return compare_keys(x->key, x->key_bytes, y->key, y->key_bytes);
}

static void mention(struct mention *mentions, uint32_t *count, const struct holt_batch *batch,
    struct piece piece, uint32_t *id)
{
	mentions[(*count)++] = (struct mention){
	    .key = piece_bytes(batch, piece), .key_bytes = piece.bytes, .id = id};
}

static uint32_t collect_mentions(struct holt_batch *batch, struct mention *mentions)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i + batch->move_count < batch->count; i++) {
		struct operation *operation = &batch->operations[i];

		if (operation->kind == OPERATION_REQUIRE_PREFIX_EMPTY)
			continue;
		mention(mentions, &count, batch, operation->key, &operation->key_id);
		if (operation->kind == OPERATION_RENAME)
			mention(mentions, &count, batch, operation->value,
			    &operation->destination_id);
	}
	return count;
}

static int number_keys(struct attempt *attempt)
{
	struct holt_batch *batch = attempt->batch;
	struct mention *mentions = malloc((2 * (size_t)batch->count + 1) * sizeof(*mentions));
	uint32_t count;

	if (!mentions)
		return -ENOMEM;
	count = collect_mentions(batch, mentions);
	attempt->keys = calloc(count + 1, sizeof(*attempt->keys));
	if (!attempt->keys) {
		free(mentions);
		return -ENOMEM;
	}
	qsort(mentions, count, sizeof(*mentions), compare_mentions);
	for (uint32_t i = 0; i < count; i++) {
		if (i == 0 || compare_mentions(&mentions[i - 1], &mentions[i]) != 0)
			attempt->keys[attempt->key_count++] = (struct key_state){
			    .key = mentions[i].key, .key_bytes = mentions[i].key_bytes};
		*mentions[i].id = attempt->key_count - 1;
	}
	free(mentions);
	return 0;
}

/* ---- guards ----------------------------------------------------------------------- */

static int note_guard(struct attempt *attempt, uint32_t operation, bool is_ours)
{
	int err = batch_fit((void **)&attempt->guards, &attempt->guard_size,
	    (uint64_t)attempt->guard_count + 1, sizeof(*attempt->guards));

	if (!err)
		attempt->guards[attempt->guard_count++] =
		    (struct guard){.operation = operation, .is_ours = is_ours};
	return err;
}

static int pass_guard_on(struct attempt *attempt, struct key_state *state,
    enum knowledge condition, uint64_t version, uint32_t operation, bool is_ours)
{
	int err = note_guard(attempt, operation, is_ours);

	if (err)
		return err;
	switch (condition) {
	case ABSENT:
		store_batch_require_absent(attempt->store_batch, state->key, state->key_bytes);
		break;
	case PRESENT:
		store_batch_require_present(attempt->store_batch, state->key, state->key_bytes);
		break;
	default:
		store_batch_require_version(attempt->store_batch, state->key, state->key_bytes,
		    version);
	}
	state->known = condition;
	state->version = version;
	return 0;
}

static int require_absent(struct attempt *attempt, struct key_state *state, uint32_t operation)
{
	if (state->is_written)
		return state->is_there ? -EEXIST : 0;
	if (state->known != UNKNOWN)
		return state->known == ABSENT ? 0 : -EEXIST;
	return pass_guard_on(attempt, state, ABSENT, 0, operation, false);
}

static int require_present(struct attempt *attempt, struct key_state *state, uint32_t operation)
{
	if (state->is_written)
		return state->is_there ? 0 : -ENOENT;
	if (state->known != UNKNOWN)
		return state->known == ABSENT ? -ENOENT : 0;
	return pass_guard_on(attempt, state, PRESENT, 0, operation, false);
}

/* A value that this very batch writes has no version that anyone could know. */
static int require_version(struct attempt *attempt, struct key_state *state, uint64_t version,
    uint32_t operation)
{
	if (state->is_written)
		return state->is_there ? -ESTALE : -ENOENT;
	if (state->known == ABSENT)
		return -ENOENT;
	if (state->known == VERSION_KNOWN)
		return state->version == version ? 0 : -ESTALE;
	return pass_guard_on(attempt, state, VERSION_KNOWN, version, operation, false);
}

/* The first key of the batch that begins with @prefix, or the end. */
static uint32_t first_below(const struct attempt *attempt, struct piece prefix)
{
	const uint8_t *bytes = piece_bytes(attempt->batch, prefix);
	uint32_t lo = 0, hi = attempt->key_count;

	while (lo < hi) {
		uint32_t middle = (lo + hi) / 2;
		const struct key_state *state = &attempt->keys[middle];

		if (compare_keys(state->key, state->key_bytes, bytes, prefix.bytes) < 0)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

static bool is_below(const struct attempt *attempt, uint32_t key, struct piece prefix)
{
	const struct key_state *state = &attempt->keys[key];

	return key < attempt->key_count && state->key_bytes >= prefix.bytes &&
	       memcmp(state->key, piece_bytes(attempt->batch, prefix), prefix.bytes) == 0;
}

/*
 * Keys below the prefix are absent from here on, if the commit succeeds.  The store's
 * guard leaves out what the batch deletes; that must have been deleted before, and must
 * stay so.
 */
static int require_prefix_empty(struct attempt *attempt, struct piece prefix, uint32_t operation)
{
	uint32_t first = first_below(attempt, prefix);

	for (uint32_t i = first; is_below(attempt, i, prefix); i++) {
		const struct key_state *state = &attempt->keys[i];

		if (state->is_written ? state->is_there : state->known > ABSENT)
			return -ENOTEMPTY;
	}
	for (uint32_t i = first; is_below(attempt, i, prefix); i++) {
		if (attempt->keys[i].is_written)
			attempt->keys[i].is_final = attempt->keys[i].known != ABSENT;
		else
			attempt->keys[i].known = ABSENT;
	}
	store_batch_require_prefix_empty(attempt->store_batch, piece_bytes(attempt->batch, prefix),
	    prefix.bytes);
	return note_guard(attempt, operation, false);
}

/* ---- writes ----------------------------------------------------------------------- */

static void write_value(struct key_state *state, const uint8_t *value, uint32_t value_bytes)
{
	state->is_written = true;
	state->is_there = true;
	state->value = value;
	state->value_bytes = value_bytes;
}

static void write_absence(struct key_state *state)
{
	state->is_written = true;
	state->is_there = false;
}

static int keep_value(struct attempt *attempt, const void *value, size_t bytes, const uint8_t **ret)
{
	struct read_value *kept = malloc(sizeof(*kept) + bytes);

	if (!kept)
		return -ENOMEM;
	memcpy(kept->bytes, value, bytes);
	kept->next = attempt->values;
	attempt->values = kept;
	*ret = kept->bytes;
	return 0;
}

/* The value that a rename takes along, as the operations before it see it. */
static int read_source(struct attempt *attempt, struct key_state *state, uint32_t operation)
{
	uint64_t version;
	size_t bytes;
	void *value;
	int err;

	if (state->is_written)
		return state->is_there ? 0 : -ENOENT;
	if (state->known == ABSENT)
		return -ENOENT;
	err = holt_get_copy(attempt->batch->holt, state->key, state->key_bytes, &value, &bytes,
	    &version);
	if (err == -ENOENT) {
		/* For certain only if it is so when the other guards are asked. */
		err = pass_guard_on(attempt, state, ABSENT, 0, operation, true);
		return err ? err : -ENOENT;
	}
	if (err)
		return err;
	err = keep_value(attempt, value, bytes, &state->value);
	free(value);
	state->value_bytes = (uint32_t)bytes;
	return err ? err : pass_guard_on(attempt, state, VERSION_KNOWN, version, operation, true);
}

static int resolve_rename(struct attempt *attempt, const struct operation *operation, uint32_t number)
{
	struct key_state *src = &attempt->keys[operation->key_id];
	struct key_state *dst = &attempt->keys[operation->destination_id];
	int err = read_source(attempt, src, number);

	if (!err && !operation->is_replacing)
		err = require_absent(attempt, dst, number);
	if (err || src == dst)
		return err;
	if (dst->is_final)
		return -EINVAL;
	write_value(dst, src->value, src->value_bytes);
	write_absence(src);
	return 0;
}

/* 0, or what the operation answers for certain, or an error of ours. */
static int resolve(struct attempt *attempt, uint32_t number)
{
	const struct operation *operation = &attempt->batch->operations[number];
	struct key_state *state = &attempt->keys[operation->key_id];
	const uint8_t *value = piece_bytes(attempt->batch, operation->value);
	int err = 0;

	if (operation->kind == OPERATION_REQUIRE_PREFIX_EMPTY)
		return require_prefix_empty(attempt, operation->key, number);

	switch (operation->kind) {
	case OPERATION_PUT_IF_ABSENT:
	case OPERATION_REQUIRE_ABSENT:
		err = require_absent(attempt, state, number);
		break;
	case OPERATION_COMPARE_AND_PUT:
	case OPERATION_DELETE_IF_VERSION:
	case OPERATION_REQUIRE_VERSION:
		err = require_version(attempt, state, operation->version, number);
		break;
	case OPERATION_REQUIRE_PRESENT:
		err = require_present(attempt, state, number);
		break;
	case OPERATION_RENAME:
		return resolve_rename(attempt, operation, number);
	default:
		break;
	}
	if (err)
		return err;
	if (operation->kind <= OPERATION_COMPARE_AND_PUT && state->is_final)
		return -EINVAL;
	if (operation->kind <= OPERATION_COMPARE_AND_PUT)
		write_value(state, value, operation->value.bytes);
	else if (operation->kind <= OPERATION_DELETE_IF_VERSION)
		write_absence(state);
	return 0;
}

/* ---- moves ------------------------------------------------------------------------ */

static bool names_key_below(const struct attempt *attempt, struct piece prefix)
{
	const struct holt_batch *batch = attempt->batch;

	for (uint32_t n = 0; n + batch->move_count < batch->count; n++) {
		struct piece guarded = batch->operations[n].key;

		if (batch->operations[n].kind == OPERATION_REQUIRE_PREFIX_EMPTY &&
		    guarded.bytes >= prefix.bytes &&
		    memcmp(piece_bytes(batch, guarded), piece_bytes(batch, prefix), prefix.bytes) == 0)
			return true;
	}
	return is_below(attempt, first_below(attempt, prefix), prefix);
}

static int check_moves(const struct attempt *attempt)
{
	struct holt_batch *batch = attempt->batch;

	for (uint32_t i = batch->count - batch->move_count; i < batch->count; i++) {
		const struct operation *move = &batch->operations[i];

		if (names_key_below(attempt, move->key) ||
		    (move->kind == OPERATION_MOVE_PREFIX && names_key_below(attempt, move->value))) {
			batch->failed = i;
			return -EINVAL;
		}
	}
	return 0;
}

static void add_moves(struct attempt *attempt)
{
	struct holt_batch *batch = attempt->batch;

	if (batch->move_count)
		store_batch_require_sources(attempt->store_batch);
	for (uint32_t i = batch->count - batch->move_count; i < batch->count; i++) {
		struct piece src = batch->operations[i].key, dst = batch->operations[i].value;

		if (batch->operations[i].kind == OPERATION_DROP_PREFIX)
			store_batch_drop_prefix(attempt->store_batch, piece_bytes(batch, src), src.bytes);
		else
			store_batch_move_prefix(attempt->store_batch, piece_bytes(batch, src),
			    src.bytes, piece_bytes(batch, dst), dst.bytes);
	}
}

/* ---- the attempt ------------------------------------------------------------------- */

/* What a guard says is absent need not be deleted behind it. */
static bool is_deleted(const struct key_state *state)
{
	return state->is_written && !state->is_there && state->known != ABSENT;
}

static void add_writes(struct attempt *attempt)
{
	for (uint32_t i = 0; i < attempt->key_count; i++) {
		const struct key_state *state = &attempt->keys[i];

		if (state->is_written && state->is_there)
			store_batch_put(attempt->store_batch, state->key, state->key_bytes,
			    state->value, state->value_bytes);
		else if (is_deleted(state))
			store_batch_delete(attempt->store_batch, state->key, state->key_bytes);
	}
}

static bool is_answer(int err)
{
	return err == -EEXIST || err == -ENOENT || err == -ESTALE || err == -ENOTEMPTY;
}

static int commit(struct attempt *attempt, enum journal_level level)
{
	int err = holt_commit(attempt->batch->holt, attempt->store_batch, level);
	uint32_t guard = store_batch_failed_guard(attempt->store_batch);
	uint32_t move = store_batch_failed_move(attempt->store_batch);
	struct holt_batch *batch = attempt->batch;

	if (err && move < batch->move_count)
		batch->failed = batch->count - batch->move_count + move;
	if (!is_answer(err) || guard >= attempt->guard_count)
		return err;
	if (attempt->guards[guard].is_ours)
		return -EAGAIN;
	batch->failed = attempt->guards[guard].operation;
	return err;
}

/*
 * Do all guards so far hold?  Asked by a commit that can not succeed: nothing is both there
 * and not.  What has been deleted so far is in it, because guards on prefixes leave that
 * out.
 */
static int ask_guards(struct attempt *attempt, struct piece any_key)
{
	const uint8_t *key = piece_bytes(attempt->batch, any_key);
	int err;

	if (!attempt->guard_count)
		return 0;
	for (uint32_t i = 0; i < attempt->key_count; i++) {
		const struct key_state *state = &attempt->keys[i];

		if (is_deleted(state))
			store_batch_delete(attempt->store_batch, state->key, state->key_bytes);
	}
	store_batch_require_absent(attempt->store_batch, key, any_key.bytes);
	store_batch_require_present(attempt->store_batch, key, any_key.bytes);
	err = commit(attempt, JOURNAL_LOSSY);
	return is_answer(err) && store_batch_failed_guard(attempt->store_batch) >= attempt->guard_count ? 0 : err;
}

static int run(struct attempt *attempt, enum journal_level level)
{
	struct holt_batch *batch = attempt->batch;
	int err = number_keys(attempt);

	if (!err)
		err = check_moves(attempt);
	for (uint32_t i = 0; i + batch->move_count < batch->count && !err; i++) {
		int answer = resolve(attempt, i);

		if (!answer)
			continue;
		if (!is_answer(answer) && answer != -EINVAL)
			return answer;
		/* An operation before this one may fail too. */
		err = ask_guards(attempt, batch->operations[i].key);
		if (err)
			return err;
		batch->failed = i;
		return answer;
	}
	if (err)
		return err;
	add_writes(attempt);
	add_moves(attempt);
	return commit(attempt, level);
}

int batch_attempt(struct holt_batch *batch, enum journal_level level)
{
	struct attempt attempt = {.batch = batch, .store_batch = batch->store_batch};
	int err;

	store_batch_reset(attempt.store_batch);
	err = run(&attempt, level);
	while (attempt.values) {
		struct read_value *next = attempt.values->next;

		free(attempt.values);
		attempt.values = next;
	}
	free(attempt.keys);
	free(attempt.guards);
	return err;
}

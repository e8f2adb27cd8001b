/*
 * Chunks of the log in recovery: what recover.c says of them.
 *
 *    bytes  | body | body | body | ...      copied: the reader's window moves on
 *    ops       ^key        ^key             one for each put and delete, sorted in the end
 *
 * Keys are compared by 16 bytes first, taken from behind what all keys of the chunk begin
 * with: of paths that is where they differ.
 *
 * Locks: none; a chunk belongs to one thread at a time.
 */
#include "config.h"

#include "store/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (8u * 1024 * 1024)

static uint64_t order_word(const struct replay_op *op, uint32_t at)
{
	uint32_t left = op->key_bytes > at ? min_of(op->key_bytes - at, 8u) : 0;
	uint8_t bytes[8] = {0};

	if (left)
		memcpy(bytes, op->key + at, left);
	return (uint64_t)bytes[0] << 56 | (uint64_t)bytes[1] << 48 | (uint64_t)bytes[2] << 40 |
	       (uint64_t)bytes[3] << 32 | (uint64_t)bytes[4] << 24 | (uint64_t)bytes[5] << 16 |
	       (uint64_t)bytes[6] << 8 | (uint64_t)bytes[7];
}

int replay_op_compare(const struct replay_op *a, const struct replay_op *b)
{
	int order;

	if (a->order[0] != b->order[0])
		return a->order[0] < b->order[0] ? -1 : 1;
	if (a->order[1] != b->order[1])
		return a->order[1] < b->order[1] ? -1 : 1;
	order = memcmp(a->key, b->key, min_of(a->key_bytes, b->key_bytes));
	return order ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

/* Those of [first, middle) and [middle, end) into one; the former came earlier. */
static void merge_ops(const struct replay_op *from, struct replay_op *to, uint32_t first,
    uint32_t middle, uint32_t end)
{
	uint32_t a = first, b = middle;

	for (uint32_t i = first; i < end; i++) {
		bool takes_b = a == middle || (b < end && replay_op_compare(&from[b], &from[a]) < 0);

		to[i] = takes_b ? from[b++] : from[a++];
	}
}

/* A merge sort, so that operations on one key stay in their order. */
void chunk_sort(struct chunk *chunk)
{
	for (uint32_t i = 0; i < chunk->op_count; i++) {
		struct replay_op *op = &chunk->ops[i];

		op->order[0] = order_word(op, chunk->shared_bytes);
		op->order[1] = order_word(op, chunk->shared_bytes + 8);
	}
	for (uint32_t width = 1; width < chunk->op_count; width *= 2) {
		struct replay_op *sorted = chunk->scratch;

		for (uint32_t first = 0; first < chunk->op_count; first += 2 * width)
			merge_ops(chunk->ops, sorted, first, min_of(first + width, chunk->op_count),
			    min_of(first + 2 * width, chunk->op_count));
		chunk->scratch = chunk->ops;
		chunk->ops = sorted;
	}
}

void chunk_empty(struct chunk *chunk)
{
	chunk->records = chunk->used = chunk->op_count = chunk->run_count = 0;
	chunk->is_single = false;
}

int chunk_fit(struct chunk *chunk, uint32_t bytes)
{
	uint32_t wanted = max_of(CHUNK_BYTES, bytes);

	if (!chunk->ops)
		chunk->ops = malloc(CHUNK_OPS * sizeof(*chunk->ops));
	if (!chunk->scratch)
		chunk->scratch = malloc(CHUNK_OPS * sizeof(*chunk->scratch));
	if (!chunk->ops || !chunk->scratch)
		return -ENOMEM;
	if (chunk->size >= wanted)
		return 0;
	free(chunk->bytes);
	chunk->size = 0;
	chunk->bytes = malloc(wanted);
	if (!chunk->bytes)
		return -ENOMEM;
	chunk->size = wanted;
	return 0;
}

void chunk_fini(struct chunk *chunk)
{
	free(chunk->bytes);
	free(chunk->ops);
	free(chunk->scratch);
	free(chunk->runs);
}

static void add_op(struct chunk *chunk, const struct tree_edit *edit, lsn_t lsn)
{
	const uint8_t *first = chunk->op_count ? chunk->ops[0].key : edit->key;
	uint32_t shared = chunk->op_count ? min_of(chunk->shared_bytes, edit->key_bytes) : edit->key_bytes;
	uint32_t same = 0;

	while (same < shared && first[same] == edit->key[same])
		same++;
	chunk->shared_bytes = same;
	chunk->ops[chunk->op_count++] = (struct replay_op){
	    .key = edit->key,
	    .key_bytes = edit->key_bytes,
	    .value_bytes = edit->value_bytes,
	    .seq = lsn + edit->seq_offset,
	    .is_put = edit->kind == TREE_PUT,
	};
}

static int add_runs(struct chunk *chunk, const struct store_batch *batch)
{
	if (chunk->run_count + batch->run_count > chunk->run_size) {
		uint32_t size = max_of(2 * chunk->run_size, chunk->run_count + batch->run_count);
		void *grown = reallocarray(chunk->runs, size, sizeof(*chunk->runs));

		if (!grown)
			return -ENOMEM;
		chunk->runs = grown;
		chunk->run_size = size;
	}
	if (batch->run_count)
		memcpy(&chunk->runs[chunk->run_count], batch->runs, batch->run_count * sizeof(*batch->runs));
	chunk->run_count += batch->run_count;
	return 0;
}

bool chunk_has_room(const struct chunk *chunk, uint32_t body_bytes, bool is_single)
{
	/* Each operation takes more than 8 bytes of the body. */
	return !chunk->records || (!is_single && !chunk->is_single &&
		round_up(chunk->used, 8u) + body_bytes <= chunk->size &&
		chunk->op_count + body_bytes / 8 <= CHUNK_OPS);
}

int chunk_add(struct chunk *chunk, struct store_batch *batch, lsn_t lsn, lsn_t end,
    const void *body, uint32_t body_bytes)
{
	uint8_t *copy;
	int err;

	if (!chunk->records)
		chunk->from = lsn;
	chunk->end = end;
	chunk->records++;
	chunk->used = (uint32_t)round_up(chunk->used, 8u);
	copy = chunk->bytes + chunk->used;
	memcpy(copy, body, body_bytes);
	chunk->used += body_bytes;
	if (chunk->is_single)
		return 0;
	err = batch_parse(batch, copy, body_bytes);
	for (uint32_t i = 0; i < batch->tx.edit_count && !err; i++)
		add_op(chunk, &batch->tx.edits[i], lsn);
	return err ? err : add_runs(chunk, batch);
}

/*
 * Chunks of the log in recovery: what recover.c says of them.
 *
 *    bytes  | body | body | body | ...      copied
 *    ops       ^key        ^key             one for each put and delete
 *    sorted [ digest, op ] [ digest, op ]   by key in the end
 *
 * Sorting.  Of each key count the 16 bytes behind what all keys of the chunk begin with:
 * of paths that is where they differ.  Of these 128 bits most are the same in all keys,
 * such as the upper half of digits.  What is left, put together in its order, is the
 * *digest*, at most 64 bits: it is sorted by, a byte at a time, the last one first, which
 * takes no comparison.  Keys with the same digest are then compared; mostly they are the
 * same key.
 *
 * Locks: none; a chunk belongs to one thread at a time.
 */
#include "config.h"

#include "store/chunk.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (8u * 1024 * 1024)

/* 8 bytes of the key from @at on as a number, as if zeros followed the key. */
static uint64_t order_word(const struct replay_op *op, uint32_t at)
{
	uint32_t left = op->key_bytes > at ? min_of(op->key_bytes - at, 8u) : 0;
	uint64_t word = 0;

	if (left == 8)
		memcpy(&word, op->key + at, 8);
	else if (left)
		memcpy(&word, op->key + at, left);
	return be64toh(word);
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

/* ---- digests ----------------------------------------------------------------------- */

/* Neighbouring bits of an order word that differ from key to key. */
struct bit_run {
	uint8_t word, shift, bits;
};

#define DIGEST_BITS 64u
#define DIGEST_BYTES (DIGEST_BITS / 8)
#define BIT_RUNS_MAX DIGEST_BITS

/* From the highest on, as many as fit a digest.  Returns their number. */
static uint32_t find_bit_runs(const uint64_t differing[2], struct bit_run *runs, uint32_t *ret_bits)
{
	uint32_t count = 0, bits = 0;

	for (unsigned word = 0; word < 2; word++) {
		uint64_t left = differing[word];

		while (left && bits < DIGEST_BITS) {
			unsigned top = 64 - (unsigned)__builtin_clzll(left);
			uint64_t zeros = ~left << (64 - top);
			unsigned here = zeros ? (unsigned)__builtin_clzll(zeros) : top;

			here = min_of(here, DIGEST_BITS - bits);
			top -= here;
			runs[count++] = (struct bit_run){
			    .word = (uint8_t)word, .shift = (uint8_t)top, .bits = (uint8_t)here};
			bits += here;
			left &= top ? UINT64_MAX >> (64 - top) : 0;
		}
	}
	*ret_bits = bits;
	return count;
}

static uint64_t digest_of(const struct replay_op *op, const struct bit_run *runs, uint32_t count)
{
	uint64_t digest = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t mask = runs[i].bits == 64 ? UINT64_MAX : (1ull << runs[i].bits) - 1;

		digest = runs[i].bits == 64 ? 0 : digest << runs[i].bits;
		digest |= op->order[runs[i].word] >> runs[i].shift & mask;
	}
	return digest;
}

/* Returns how many bits of the digests there are. */
static uint32_t make_digests(struct chunk *chunk)
{
	uint64_t differing[2] = {0};
	struct bit_run runs[BIT_RUNS_MAX];
	uint32_t run_count, bits;

	for (uint32_t i = 0; i < chunk->op_count; i++) {
		struct replay_op *op = &chunk->ops[i];

		op->order[0] = order_word(op, chunk->shared_bytes);
		op->order[1] = order_word(op, chunk->shared_bytes + 8);
		differing[0] |= op->order[0] ^ chunk->ops[0].order[0];
		differing[1] |= op->order[1] ^ chunk->ops[0].order[1];
	}
	run_count = find_bit_runs(differing, runs, &bits);
	for (uint32_t i = 0; i < chunk->op_count; i++)
		chunk->sorted[i] = (struct sorted_op){
		    .digest = digest_of(&chunk->ops[i], runs, run_count), .op = i};
	return bits;
}

/* ---- sorting ------------------------------------------------------------------------- */

static void swap_sorted(struct chunk *chunk)
{
	struct sorted_op *sorted = chunk->scratch;

	chunk->scratch = chunk->sorted;
	chunk->sorted = sorted;
}

/* By one byte of the digests; those that have the same stay in their order. */
static void sort_by_byte(struct chunk *chunk, unsigned shift, const uint32_t counts[256])
{
	uint32_t ends[256], end = 0;

	if (counts[chunk->sorted[0].digest >> shift & 0xff] == chunk->op_count)
		return;
	for (unsigned byte = 0; byte < 256; byte++) {
		ends[byte] = end;
		end += counts[byte];
	}
	for (uint32_t i = 0; i < chunk->op_count; i++) {
		const struct sorted_op *op = &chunk->sorted[i];

		chunk->scratch[ends[op->digest >> shift & 0xff]++] = *op;
	}
	swap_sorted(chunk);
}

static void sort_digests(struct chunk *chunk, uint32_t bits)
{
	uint32_t counts[DIGEST_BYTES][256] = {0};

	for (uint32_t i = 0; i < chunk->op_count; i++)
		for (unsigned byte = 0; byte < div_up(bits, 8); byte++)
			counts[byte][chunk->sorted[i].digest >> 8 * byte & 0xff]++;
	for (unsigned byte = 0; byte < div_up(bits, 8); byte++)
		sort_by_byte(chunk, 8 * byte, counts[byte]);
}

static int compare_sorted(const struct chunk *chunk, const struct sorted_op *a, const struct sorted_op *b)
{
	return replay_op_compare(&chunk->ops[a->op], &chunk->ops[b->op]);
}

/* Those of [first, middle) and [middle, end) into one; the former came earlier. */
static void merge_ops(struct chunk *chunk, uint32_t first, uint32_t middle, uint32_t end)
{
	struct sorted_op *from = chunk->scratch, *to = chunk->sorted;
	uint32_t a = first, b = middle;

	memcpy(from + first, to + first, (end - first) * sizeof(*from));
	for (uint32_t i = first; i < end; i++) {
		bool takes_b = a == middle ||
			       (b < end && compare_sorted(chunk, &from[b], &from[a]) < 0);

		to[i] = takes_b ? from[b++] : from[a++];
	}
}

static bool are_in_order(const struct chunk *chunk, uint32_t first, uint32_t end)
{
	for (uint32_t i = first + 1; i < end; i++)
		if (compare_sorted(chunk, &chunk->sorted[i - 1], &chunk->sorted[i]) > 0)
			return false;
	return true;
}

/* Those with the same digest: a merge sort, so that operations on one key stay in their
 * order. */
static void sort_alike(struct chunk *chunk, uint32_t first, uint32_t end)
{
	uint32_t count = end - first;

	if (are_in_order(chunk, first, end))
		return;
	for (uint32_t width = 1; width < count; width *= 2)
		for (uint32_t at = 0; at + width < count; at += 2 * width)
			merge_ops(chunk, first + at, first + at + width, first + min_of(at + 2 * width, count));
}

void chunk_sort(struct chunk *chunk)
{
	if (!chunk->op_count)
		return;
	sort_digests(chunk, make_digests(chunk));
	for (uint32_t first = 0, end; first < chunk->op_count; first = end) {
		for (end = first + 1; end < chunk->op_count; end++)
			if (chunk->sorted[end].digest != chunk->sorted[first].digest)
				break;
		if (end > first + 1)
			sort_alike(chunk, first, end);
	}
}

/* ---- filling ---------------------------------------------------------------------------- */

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
	if (!chunk->sorted)
		chunk->sorted = malloc(CHUNK_OPS * sizeof(*chunk->sorted));
	if (!chunk->scratch)
		chunk->scratch = malloc(CHUNK_OPS * sizeof(*chunk->scratch));
	if (!chunk->ops || !chunk->sorted || !chunk->scratch)
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
	free(chunk->sorted);
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

static const uint8_t *copy_body(struct chunk *chunk, const void *body, uint32_t body_bytes)
{
	uint8_t *copy;

	chunk->used = (uint32_t)round_up(chunk->used, 8u);
	copy = chunk->bytes + chunk->used;
	memcpy(copy, body, body_bytes);
	chunk->used += body_bytes;
	return copy;
}

int chunk_add(struct chunk *chunk, struct store_batch *batch, lsn_t lsn, lsn_t end,
    const void *body, uint32_t body_bytes)
{
	const uint8_t *bytes = copy_body(chunk, body, body_bytes);
	int err;

	if (!chunk->records)
		chunk->from = lsn;
	chunk->end = end;
	chunk->records++;
	chunk->single = bytes;
	chunk->single_bytes = body_bytes;
	if (chunk->is_single)
		return 0;
	err = batch_parse(batch, bytes, body_bytes);
	for (uint32_t i = 0; i < batch->tx.edit_count && !err; i++)
		add_op(chunk, &batch->tx.edits[i], lsn);
	return err ? err : add_runs(chunk, batch);
}

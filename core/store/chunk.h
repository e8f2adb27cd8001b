/*
 * A run of journal records on its way from the reader to the tree (recover.c): the bodies,
 * and the operations in them, to be sorted by key.
 */
#ifndef HOLTFS_STORE_CHUNK_H
#define HOLTFS_STORE_CHUNK_H

#include "store/store_internal.h"

#define CHUNK_OPS (64u * 1024)

struct replay_op {
	uint64_t order[2]; /* 16 bytes of the key behind what all keys of the chunk share */
	const uint8_t *key; /* in a body; the value follows */
	uint32_t key_bytes, value_bytes;
	uint64_t seq;
	bool is_put;
};

struct sorted_op {
	uint64_t digest; /* chunk.c */
	uint32_t op;
};

struct chunk {
	lsn_t from, end;
	uint64_t records;
	bool is_single; /* one record, for batch_apply() as it is */
	const uint8_t *single; /* its body */
	uint32_t single_bytes;
	uint8_t *bytes; /* bodies */
	uint32_t used, size;
	struct replay_op *ops; /* CHUNK_OPS of each of the three */
	struct sorted_op *sorted, *scratch;
	uint32_t op_count;
	uint32_t shared_bytes; /* that all keys begin with */
	struct block_run *runs;
	uint32_t run_count, run_size;
};

void chunk_empty(struct chunk *chunk); /* memory kept */
void chunk_fini(struct chunk *chunk);

/* An empty chunk gets its memory, enough for a body of @body_bytes. */
int chunk_fit(struct chunk *chunk, uint32_t body_bytes);

/* Can one more record come in?  One that is single wants a chunk to itself. */
bool chunk_has_room(const struct chunk *chunk, uint32_t body_bytes, bool is_single);

/* Adds a record: copies its body and takes that apart, with @batch, unless it is single. */
int chunk_add(struct chunk *chunk, struct store_batch *batch, lsn_t lsn, lsn_t end,
    const void *body, uint32_t body_bytes);

/* Makes `sorted`: by key, and those on one key in their order. */
void chunk_sort(struct chunk *chunk);
int replay_op_compare(const struct replay_op *a, const struct replay_op *b);

#endif

/*
 * A batch of the public interface, between batch.c, which collects operations, and
 * resolve.c, which makes a batch of the store out of them.
 */
#ifndef HOLTFS_HOLT_BATCH_INTERNAL_H
#define HOLTFS_HOLT_BATCH_INTERNAL_H

#include "holt/holt_internal.h"

enum operation_kind {
	OPERATION_PUT,
	OPERATION_PUT_IF_ABSENT,
	OPERATION_COMPARE_AND_PUT,
	OPERATION_DELETE,
	OPERATION_DELETE_IF_VERSION,
	OPERATION_RENAME,
	OPERATION_REQUIRE_PRESENT,
	OPERATION_REQUIRE_ABSENT,
	OPERATION_REQUIRE_VERSION,
	OPERATION_REQUIRE_PREFIX_EMPTY,
	OPERATION_MOVE_PREFIX,
	OPERATION_DROP_PREFIX,
};

/* Bytes inside the batch's own memory. */
struct piece {
	uint32_t at, bytes;
};

struct operation {
	enum operation_kind kind;
	bool is_replacing; /* RENAME */
	struct piece key;  /* RENAME, MOVE_PREFIX: the source */
	struct piece value; /* RENAME, MOVE_PREFIX: the destination */
	uint64_t version;
	uint32_t key_id, destination_id; /* of the keys named, when they have been sorted */
};

struct holt_batch {
	struct holt *holt;
	struct store_batch *store_batch;
	struct operation *operations;
	uint32_t count, size;
	uint8_t *bytes;
	uint32_t byte_count, byte_size;
	int error;     /* of an operation that could not be added */
	size_t failed; /* operation, SIZE_MAX: none */
	uint32_t move_count; /* the last operations: moves and drops */
};

static inline const uint8_t *piece_bytes(const struct holt_batch *batch, struct piece piece)
{
	return batch->bytes + piece.at;
}

/* Makes room for one more of @unit bytes. */
int batch_fit(void **memory, uint32_t *size, uint64_t needed, uint32_t unit);

/* One attempt to commit: -EAGAIN, if the store changed under it; sets failed. */
int batch_attempt(struct holt_batch *batch, enum journal_level level);

#endif

/*
 * What only our own engine is asked, by the driver's engines and sessions.
 */
#ifndef BENCH_ENGINE_OURS_H
#define BENCH_ENGINE_OURS_H

#include "bench/engine/driver.h"

struct ours_stats {
	uint64_t used_bytes;	/* of the volume */
	uint64_t journal_bytes; /* part of the volume that is its journal */
	uint64_t replayed_records;
	uint64_t device_reads;
};

void ours_stats(void *engine, struct ours_stats *ret);

/* Bytes in live nodes over bytes in frames, of the average frame. */
double ours_fill(void *engine);

int ours_move_prefix(void *session, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes);

/* Returns when no key with the prefix is to be seen any more. */
int ours_drop_prefix(void *session, const void *prefix, size_t prefix_bytes);

#endif

/*
 * Shared inside core/holt.
 *
 * The public face translates: sizes, errors, options, and batches whose operations see
 * one another into batches of core/store, which name each key once.  It keeps no data.
 *
 * Locking: none.  Lanes are spots where a thread leaves a cursor or batch it has done with
 * and finds it for its next walk or rename, memory and all; an exchange of one word is all
 * there is to it, so a thread that finds its lane empty makes a new one.
 */
#ifndef HOLTFS_HOLT_HOLT_INTERNAL_H
#define HOLTFS_HOLT_HOLT_INTERNAL_H

#include "holt/holt.h"

#include <stdatomic.h>

#include "store/store.h"

#define HOLT_LANES 16

struct lane {
	_Alignas(64) _Atomic(struct holt_cursor *) cursor;
	_Atomic(struct store_batch *) batch; /* for renames */
};

struct holt_counters {
	_Atomic uint64_t renames, batches, walks;
};

struct holt {
	/* set at open */
	struct store *store;
	enum journal_level level; /* of calls that do not say */
	void (*close_device)(void *ctx);
	void *close_ctx;

	struct lane lanes[HOLT_LANES];
	struct holt_counters counters;
};

static inline void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* The lane of the calling thread. */
struct lane *holt_lane(struct holt *holt);

/* -EINVAL: not one of enum holt_durability. */
int holt_level(const struct holt *holt, enum holt_durability durability, enum journal_level *ret);

/* Commits and waits for @level. */
int holt_commit(struct holt *holt, struct store_batch *batch, enum journal_level level);

/* A key that may be there: -EINVAL, -ENAMETOOLONG; and one that is to be written. */
int holt_check_key(const void *key, size_t key_bytes);
int holt_check_new_key(const void *key, size_t key_bytes);
int holt_check_value(const void *value, size_t value_bytes);

/* The value of @key whole, in memory from malloc(). */
int holt_get_copy(struct holt *holt, const void *key, size_t key_bytes, void **ret_value,
    size_t *ret_bytes, uint64_t *ret_version);

struct holt_cursor {
	struct holt *holt; /* NULL: of a view, not kept in a lane */
	struct store_cursor *keys;
};

struct holt_visitor {
	int (*visit)(void *ctx, const struct holt_item *item);
	void *ctx;
};

/* For visits of the store, with a struct holt_visitor. */
int holt_show_run(void *ctx, struct tree_scan *run);

int holt_check_range(const struct holt_range *range, struct store_range *ret);

/* Frees a cursor that lies in a lane. */
void holt_cursor_destroy(struct holt_cursor *cursor);

#endif

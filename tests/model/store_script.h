/*
 * Random batches for store and model: each is made against what the model holds, so
 * that its result is known beforehand.
 */
#ifndef HOLTFS_TESTS_STORE_SCRIPT_H
#define HOLTFS_TESTS_STORE_SCRIPT_H

#include "tests/model/store_model.h"

#define SCRIPT_OPS_MAX 48
#define SCRIPT_NOTES_BYTES 16384

enum script_kind { SCRIPT_PUT, SCRIPT_DELETE, SCRIPT_MOVE, SCRIPT_DROP };

struct script_op {
	enum script_kind kind;
	uint8_t *key, *dst;
	uint32_t key_bytes, dst_bytes;
	uint64_t seed;
	uint32_t value_bytes;
};

struct script {
	uint64_t random;
	uint64_t bytes_wanted; /* about what the model shall hold */
	uint32_t keys_max;     /* of a batch, up to 40 */
	bool is_small;	       /* short keys and values only */
	struct model *model;
	/* The batch made last. */
	struct script_op ops[SCRIPT_OPS_MAX];
	uint32_t op_count;
	uint32_t named; /* keys and prefixes, each of which may need a frame of its own */
	char notes[SCRIPT_NOTES_BYTES]; /* the same in words, guards and all */
	uint32_t notes_used;
	uint8_t *key;
	uint8_t *value;
};

void script_init(struct script *script, uint64_t seed, struct model *model);
void script_fini(struct script *script);

/* Fills an empty batch; returns what committing it must answer.  A guard by version
 * asks @store for the version; NULL: there are none. */
int script_make_batch(struct script *script, struct store *store, struct store_batch *batch);

/* Writes one key, perhaps with a guard; returns what the store answered, and in
 * @ret_expected what it must. */
int script_write_one(struct script *script, struct store *store, int *ret_expected);

/* After the commit: the model follows. */
void script_apply(struct script *script, struct model *model);

/* A key to look up: often one that is there, or next to one. */
uint32_t script_pick_key(struct script *script, uint8_t *bytes);

#endif

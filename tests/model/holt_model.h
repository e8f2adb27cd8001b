/*
 * A plain sorted map that does what holt.h says, one operation after the other.
 */
#ifndef HOLTFS_TESTS_HOLT_MODEL_H
#define HOLTFS_TESTS_HOLT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "holt/holt.h"

#define KEY_BYTES_MAX 60
#define ITEMS_MAX 4096

struct model_key {
	uint8_t bytes[KEY_BYTES_MAX];
	uint32_t count;
};

struct model_item {
	struct model_key key;
	uint64_t value;
	uint64_t version; /* 0: written by the batch under way */
};

struct model {
	struct model_item items[ITEMS_MAX];
	uint32_t count;
};

enum op_kind {
	OP_PUT,
	OP_PUT_IF_ABSENT,
	OP_COMPARE_AND_PUT,
	OP_DELETE,
	OP_DELETE_IF_VERSION,
	OP_RENAME,
	OP_REQUIRE_PRESENT,
	OP_REQUIRE_ABSENT,
	OP_REQUIRE_VERSION,
	OP_REQUIRE_PREFIX_EMPTY,
	OP_MOVE_PREFIX,
	OP_DROP_PREFIX,
};

struct op {
	enum op_kind kind;
	struct model_key key, destination;
	uint64_t value, version;
	bool is_replacing;
};

int key_compare(const struct model_key *a, const struct model_key *b);
bool key_begins_with(const struct model_key *key, const struct model_key *prefix);

/* The place of @key, or where it belongs. */
uint32_t model_place(const struct model *model, const struct model_key *key);
const struct model_item *model_find(const struct model *model, const struct model_key *key);
bool model_has_below(const struct model *model, const struct model_key *prefix);

/* What the operation answers; the model has changed only with 0. */
int model_apply(struct model *model, const struct op *op);

/* A move would make a key too long for the model. */
bool model_move_fits(const struct model *model, const struct op *op);

#endif

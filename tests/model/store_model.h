/*
 * What a store should hold, in the plainest way: a sorted array of keys, and values
 * that are made again from a seed when they are compared.
 */
#ifndef HOLTFS_TESTS_STORE_MODEL_H
#define HOLTFS_TESTS_STORE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

struct model_item {
	uint8_t *key;
	uint32_t key_bytes;
	uint32_t value_bytes;
	uint64_t seed; /* of the value */
};

struct model {
	struct model_item *items;
	uint32_t count, size;
	uint64_t bytes; /* of keys and values */
};

void model_init(struct model *model);
void model_fini(struct model *model);
void model_copy(struct model *to, const struct model *from);

/* The place of the key, or where it belongs. */
bool model_find(const struct model *model, const void *key, uint32_t key_bytes, uint32_t *ret_at);

void model_put(struct model *model, const void *key, uint32_t key_bytes, uint64_t seed, uint32_t value_bytes);
void model_delete(struct model *model, const void *key, uint32_t key_bytes);

bool model_has_prefix(const struct model *model, const void *prefix, uint32_t prefix_bytes);

/* -EINVAL, -ENOENT (nothing to do), -EEXIST as store_batch_move_prefix() has them. */
int model_check_move(const struct model *model, const void *src, uint32_t src_bytes,
    const void *dst, uint32_t dst_bytes);
void model_drop(struct model *model, const void *prefix, uint32_t prefix_bytes);
void model_move(struct model *model, const void *src, uint32_t src_bytes, const void *dst, uint32_t dst_bytes);

/* The value that @seed stands for. */
void model_fill_value(void *value, uint32_t bytes, uint64_t seed);

/* Is that @seed's value? */
bool model_is_value(const void *value, uint32_t bytes, uint64_t seed);

/* Walks store and model side by side.  False: they differ, and it was said where. */
bool model_equals_view(const struct model *model, struct store_view *view, bool is_quiet);
bool model_equals(const struct model *model, struct store *store, bool is_quiet);

/* A key of one of several families; @bytes has place for STORE_KEY_MAX. */
uint32_t model_make_key(uint64_t *random, uint8_t *bytes);

/* Mostly small, now and then up to STORE_VALUE_MAX. */
uint32_t model_make_value_bytes(uint64_t *random);

#endif

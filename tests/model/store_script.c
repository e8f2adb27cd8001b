/*
 * Random batches.
 *
 * A batch names each key once, and its moves lie apart from its keys and from each
 * other, as store.h asks; one kind of pair is made on purpose: what lies at the
 * second move's destination is moved away by the first.
 */
#include "config.h"

#include "tests/model/store_script.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "tests/support/support.h"

void script_init(struct script *script, uint64_t seed, struct model *model)
{
	memset(script, 0, sizeof(*script));
	script->random = seed ? seed : 1;
	script->model = model;
	script->bytes_wanted = 24u << 20;
	script->keys_max = 6;
	script->key = malloc(2 * (size_t)STORE_KEY_MAX + 64);
	script->value = malloc(STORE_VALUE_MAX + 8);
	ASSERT(script->key && script->value);
}

static void forget_ops(struct script *script)
{
	while (script->op_count > 0) {
		struct script_op *op = &script->ops[--script->op_count];

		free(op->key);
		free(op->dst);
	}
}

void script_fini(struct script *script)
{
	forget_ops(script);
	free(script->key);
	free(script->value);
}

static uint64_t below(struct script *script, uint64_t end)
{
	return support_random_below(&script->random, end);
}

static uint8_t *copy_bytes(const uint8_t *bytes, uint32_t count)
{
	uint8_t *copy = malloc(count + 1u);

	ASSERT(copy);
	memcpy(copy, bytes, count);
	return copy;
}

static const struct model_item *any_item(struct script *script)
{
	return &script->model->items[below(script, script->model->count)];
}

static uint32_t new_key(struct script *script, uint8_t *bytes)
{
	uint32_t count;

	do {
		count = model_make_key(&script->random, bytes);
	} while (script->is_small && count > 600);
	return count;
}

uint32_t script_pick_key(struct script *script, uint8_t *bytes)
{
	const struct model_item *item;
	uint32_t count;

	if (script->model->count == 0 || below(script, 2))
		return new_key(script, bytes);
	item = any_item(script);
	count = min_of(item->key_bytes, STORE_KEY_MAX);
	memcpy(bytes, item->key, count);
	if (below(script, 16) == 0)
		count = 1 + (uint32_t)below(script, count); /* cut off */
	else if (below(script, 16) == 0 && count < STORE_KEY_MAX)
		bytes[count++] = (uint8_t)below(script, 256); /* one more */
	return count;
}

static bool begins_with(const uint8_t *key, uint32_t key_bytes, const uint8_t *prefix, uint32_t prefix_bytes)
{
	return key_bytes >= prefix_bytes && memcmp(key, prefix, prefix_bytes) == 0;
}

static bool nest(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes)
{
	return begins_with(a, a_bytes, b, b_bytes) || begins_with(b, b_bytes, a, a_bytes);
}

/* May @bytes stand in the batch beside what is there already? */
static bool is_apart(const struct script *script, const uint8_t *bytes, uint32_t count, bool is_move)
{
	for (uint32_t i = 0; i < script->op_count; i++) {
		const struct script_op *op = &script->ops[i];

		if (op->kind != SCRIPT_MOVE && op->kind != SCRIPT_DROP && !is_move) {
			if (op->key_bytes == count && memcmp(op->key, bytes, count) == 0)
				return false;
		} else if (nest(op->key, op->key_bytes, bytes, count)) {
			return false;
		}
		if (op->kind == SCRIPT_MOVE && nest(op->dst, op->dst_bytes, bytes, count))
			return false;
	}
	return true;
}

/* What a failing batch was is printed; the first bytes of a key say which it is. */
static void note(struct script *script, const char *what, const uint8_t *key, uint32_t key_bytes)
{
	char *end = script->notes + sizeof(script->notes), *at = script->notes + script->notes_used;

	at += snprintf(at, (size_t)(end - at), "\n%s %u:", what, key_bytes);
	for (uint32_t i = 0; i < min_of(key_bytes, 64u) && end - at > 128; i++)
		at += key[i] > ' ' && key[i] < 127 && key[i] != '\\' ?
			  snprintf(at, 8, "%c", key[i]) :
			  snprintf(at, 8, "\\x%02x", key[i]);
	if (end - at > 128)
		script->notes_used = (uint32_t)(at - script->notes);
}

/* ---- one operation ------------------------------------------------------------- */

static struct script_op *add_op(struct script *script, enum script_kind kind, const uint8_t *key, uint32_t key_bytes)
{
	struct script_op *op = &script->ops[script->op_count++];

	script->named++;
	ASSERT(script->op_count <= SCRIPT_OPS_MAX);
	*op = (struct script_op){.kind = kind, .key = copy_bytes(key, key_bytes), .key_bytes = key_bytes};
	if (kind != SCRIPT_MOVE)
		note(script, kind == SCRIPT_PUT ? "put" : "delete", key, key_bytes);
	return op;
}

static void add_delete(struct script *script, struct store_batch *batch, const uint8_t *key, uint32_t key_bytes)
{
	if (!is_apart(script, key, key_bytes, false))
		return;
	add_op(script, SCRIPT_DELETE, key, key_bytes);
	store_batch_delete(batch, key, key_bytes);
}

static void add_put(struct script *script, struct store_batch *batch)
{
	uint32_t bytes = model_make_value_bytes(&script->random);
	struct script_op *op;
	uint32_t key_bytes = script_pick_key(script, script->key);

	if (!is_apart(script, script->key, key_bytes, false))
		return;
	/* Two of the longest do not fit a frame together. */
	if (script->is_small || script->op_count)
		bytes = min_of(bytes, 6000u);
	op = add_op(script, SCRIPT_PUT, script->key, key_bytes);
	op->seed = support_random(&script->random);
	op->value_bytes = bytes;
	model_fill_value(script->value, bytes, op->seed);
	store_batch_put(batch, op->key, op->key_bytes, script->value, bytes);
}

/* Neighbours in order: frames empty out. */
static void delete_some_neighbours(struct script *script, struct store_batch *batch)
{
	const struct model *model = script->model;
	uint32_t at = (uint32_t)below(script, model->count);

	for (uint32_t i = 0; i < script->keys_max && at + i < model->count; i++)
		if (model->items[at + i].key_bytes <= STORE_KEY_MAX)
			add_delete(script, batch, model->items[at + i].key, model->items[at + i].key_bytes);
}

static void add_edits(struct script *script, struct store_batch *batch)
{
	bool is_full = script->model->bytes > script->bytes_wanted;
	uint32_t count = 1 + (uint32_t)below(script, script->keys_max);

	if (script->model->count && below(script, is_full ? 2 : 12) == 0) {
		delete_some_neighbours(script, batch);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (below(script, 4)) {
			add_put(script, batch);
		} else {
			uint32_t bytes = script_pick_key(script, script->key);

			add_delete(script, batch, script->key, bytes);
		}
	}
}

/* ---- guards ---------------------------------------------------------------------- */

static bool is_deleted(const struct script *script, const struct model_item *item)
{
	for (uint32_t i = 0; i < script->op_count; i++) {
		const struct script_op *op = &script->ops[i];

		if (op->kind == SCRIPT_DELETE && op->key_bytes == item->key_bytes &&
		    memcmp(op->key, item->key, op->key_bytes) == 0)
			return true;
	}
	return false;
}

/* Are all keys with the prefix among those that the batch deletes? */
static bool will_be_empty(const struct script *script, const uint8_t *prefix, uint32_t bytes)
{
	uint32_t at;

	model_find(script->model, prefix, bytes, &at);
	for (; at < script->model->count; at++) {
		const struct model_item *item = &script->model->items[at];

		if (!begins_with(item->key, item->key_bytes, prefix, bytes))
			break;
		if (!is_deleted(script, item))
			return false;
	}
	return true;
}

/* On what begins with a part of the key just picked. */
static int add_prefix_guard(struct script *script, struct store_batch *batch, uint32_t bytes)
{
	bool is_there;

	bytes = 1 + (uint32_t)below(script, bytes);
	is_there = model_has_prefix(script->model, script->key, bytes);
	if (below(script, 2)) {
		store_batch_require_prefix_present(batch, script->key, bytes);
		return is_there ? 0 : -ENOENT;
	}
	store_batch_require_prefix_empty(batch, script->key, bytes);
	return will_be_empty(script, script->key, bytes) ? 0 : -ENOTEMPTY;
}

static int add_guard(struct script *script, struct store *store, struct store_batch *batch)
{
	uint32_t at, ignored, bytes = script_pick_key(script, script->key);
	bool is_there = model_find(script->model, script->key, bytes, &at);
	uint64_t version = 1;
	int err;

	script->named++;
	if (below(script, 4) == 0)
		return add_prefix_guard(script, batch, bytes);
	switch (below(script, store ? 3 : 2)) {
	case 0:
		note(script, "require absent", script->key, bytes);
		store_batch_require_absent(batch, script->key, bytes);
		return is_there ? -EEXIST : 0;
	case 1:
		note(script, "require present", script->key, bytes);
		store_batch_require_present(batch, script->key, bytes);
		return is_there ? 0 : -ENOENT;
	default:
		note(script, "require version", script->key, bytes);
		err = store_get(store, script->key, bytes, script->value, 0, &ignored, &version);
		ASSERT(err == (is_there ? (ignored ? -ERANGE : 0) : -ENOENT));
		is_there = is_there || err != -ENOENT;
		if (below(script, 2)) {
			store_batch_require_version(batch, script->key, bytes, version);
			return is_there ? 0 : -ENOENT;
		}
		store_batch_require_version(batch, script->key, bytes, version + 1);
		return is_there ? -ESTALE : -ENOENT;
	}
}

/* ---- moves -------------------------------------------------------------------------- */

/* Some prefix of some key, so short that what is below stays within the limit. */
static uint32_t pick_prefix(struct script *script, uint8_t *bytes)
{
	uint32_t count = script_pick_key(script, bytes);

	count = min_of(count, 60u);
	for (uint32_t i = 0; i < count && below(script, 3); i++)
		if (bytes[count - 1 - i] == '/')
			return count - i;
	return 1 + (uint32_t)below(script, count);
}

static uint32_t new_prefix(struct script *script, uint8_t *bytes)
{
	uint32_t count = below(script, 8) ? new_key(script, bytes) : pick_prefix(script, bytes);

	return min_of(count, 40u);
}

/* The longest key a move would make. */
static uint32_t longest_below(const struct script *script, const uint8_t *prefix, uint32_t prefix_bytes)
{
	uint32_t at, longest = 0;

	model_find(script->model, prefix, prefix_bytes, &at);
	for (; at < script->model->count; at++) {
		const struct model_item *item = &script->model->items[at];

		if (!begins_with(item->key, item->key_bytes, prefix, prefix_bytes))
			break;
		longest = max_of(longest, item->key_bytes - prefix_bytes);
	}
	return longest;
}

static int add_move(struct script *script, struct store_batch *batch, const uint8_t *src,
    uint32_t src_bytes, const uint8_t *dst, uint32_t dst_bytes)
{
	struct script_op *op;
	int err = model_check_move(script->model, src, src_bytes, dst, dst_bytes);

	script->named += 2;
	note(script, err == -ENOENT ? "move nothing from" : "move", src, src_bytes);
	note(script, "  to", dst, dst_bytes);
	store_batch_move_prefix(batch, src, src_bytes, dst, dst_bytes);
	if (err == -ENOENT)
		return 0;
	op = add_op(script, SCRIPT_MOVE, src, src_bytes);
	op->dst = copy_bytes(dst, dst_bytes);
	op->dst_bytes = dst_bytes;
	return err;
}

static void add_drop(struct script *script, struct store_batch *batch, const uint8_t *prefix, uint32_t prefix_bytes)
{
	script->named++;
	store_batch_drop_prefix(batch, prefix, prefix_bytes);
	if (model_has_prefix(script->model, prefix, prefix_bytes))
		add_op(script, SCRIPT_DROP, prefix, prefix_bytes);
}

static int add_moves(struct script *script, struct store_batch *batch)
{
	unsigned count = below(script, 4) ? 1 : 1 + (unsigned)below(script, 3);
	uint8_t src[STORE_KEY_MAX + 1], dst[STORE_KEY_MAX + 1], away[STORE_KEY_MAX + 1];
	int err = 0;

	for (unsigned i = 0; i < count && !err; i++) {
		uint32_t src_bytes = pick_prefix(script, src);
		uint32_t dst_bytes = new_prefix(script, dst);
		uint32_t away_bytes = new_prefix(script, away);

		if (!is_apart(script, src, src_bytes, true) || !is_apart(script, dst, dst_bytes, true) ||
		    longest_below(script, src, src_bytes) + dst_bytes > STORE_KEY_MAX)
			continue;
		if (below(script, 10) == 0) {
			/* Short prefixes would leave little to work on. */
			if (src_bytes > 24 || below(script, 60) == 0)
				add_drop(script, batch, src, src_bytes);
			continue;
		}
		err = model_check_move(script->model, src, src_bytes, dst, dst_bytes);
		/* Replace: what is at dst goes away first, or for good. */
		if (err == -EEXIST && below(script, 4) == 0) {
			add_drop(script, batch, dst, dst_bytes);
			return add_move(script, batch, src, src_bytes, dst, dst_bytes) == -EEXIST ? 0 : -EINVAL;
		}
		if (err == -EEXIST && below(script, 2) && is_apart(script, away, away_bytes, true) &&
		    !nest(src, src_bytes, away, away_bytes) &&
		    model_check_move(script->model, dst, dst_bytes, away, away_bytes) == 0 &&
		    longest_below(script, dst, dst_bytes) + away_bytes <= STORE_KEY_MAX) {
			add_move(script, batch, dst, dst_bytes, away, away_bytes);
			add_move(script, batch, src, src_bytes, dst, dst_bytes);
			return 0;
		}
		err = add_move(script, batch, src, src_bytes, dst, dst_bytes);
	}
	return err;
}

/* ---- a batch --------------------------------------------------------------------------- */

int script_make_batch(struct script *script, struct store *store, struct store_batch *batch)
{
	int err = 0, guard_err = 0;

	forget_ops(script);
	script->named = 0;
	script->notes_used = 0;
	script->notes[0] = 0;
	if (script->model->count && below(script, 10) == 0)
		err = add_moves(script, batch);
	if (err == 0 && (script->op_count == 0 || below(script, 2)))
		add_edits(script, batch);
	for (unsigned i = 0; i < 2 && !guard_err && below(script, 4) == 0; i++)
		guard_err = add_guard(script, store, batch);
	return guard_err ? guard_err : err;
}

void script_apply(struct script *script, struct model *model)
{
	for (uint32_t i = 0; i < script->op_count; i++) {
		const struct script_op *op = &script->ops[i];

		if (op->kind == SCRIPT_PUT)
			model_put(model, op->key, op->key_bytes, op->seed, op->value_bytes);
		else if (op->kind == SCRIPT_DELETE)
			model_delete(model, op->key, op->key_bytes);
		else if (op->kind == SCRIPT_DROP)
			model_drop(model, op->key, op->key_bytes);
		else
			model_move(model, op->key, op->key_bytes, op->dst, op->dst_bytes);
	}
}

/* ---- one key ----------------------------------------------------------------------------- */

/* A guard on a key; what it must answer in @ret_err. */
static bool make_guard(struct script *script, struct store *store, const uint8_t *key,
    uint32_t key_bytes, struct store_guard *ret, int *ret_err)
{
	uint32_t at, bytes;
	bool is_there = model_find(script->model, key, key_bytes, &at);
	bool is_right = below(script, 2);

	*ret_err = 0;
	switch (below(script, 8)) {
	case 0:
		ret->kind = STORE_REQUIRE_ABSENT;
		*ret_err = is_there ? -EEXIST : 0;
		return true;
	case 1:
		ret->kind = STORE_REQUIRE_PRESENT;
		*ret_err = is_there ? 0 : -ENOENT;
		return true;
	case 2:
		ret->kind = STORE_REQUIRE_VERSION;
		ret->version = 1;
		store_get(store, key, key_bytes, NULL, 0, &bytes, &ret->version);
		ret->version += is_right ? 0 : 1;
		*ret_err = !is_there ? -ENOENT : is_right ? 0 : -ESTALE;
		return true;
	default:
		return false;
	}
}

int script_write_one(struct script *script, struct store *store, int *ret_expected)
{
	uint32_t key_bytes = script_pick_key(script, script->key);
	uint32_t bytes = model_make_value_bytes(&script->random);
	struct store_guard guard;
	bool has_guard = make_guard(script, store, script->key, key_bytes, &guard, ret_expected);
	struct script_op *op;

	forget_ops(script);
	script->named = 0;
	script->notes_used = 0;
	script->notes[0] = 0;
	if (below(script, 3) == 0) {
		add_op(script, SCRIPT_DELETE, script->key, key_bytes);
		return store_delete(store, script->key, key_bytes, has_guard ? &guard : NULL, NULL);
	}
	op = add_op(script, SCRIPT_PUT, script->key, key_bytes);
	op->seed = support_random(&script->random);
	op->value_bytes = script->is_small ? min_of(bytes, 6000u) : bytes;
	model_fill_value(script->value, op->value_bytes, op->seed);
	return store_put(store, script->key, key_bytes, script->value, op->value_bytes,
	    has_guard ? &guard : NULL, NULL);
}

/* The sorted map: arrays, shifted for every change. */
#include "config.h"

#include "tests/model/holt_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

int key_compare(const struct model_key *a, const struct model_key *b)
{
	int order = memcmp(a->bytes, b->bytes, min_of(a->count, b->count));

	if (order)
		return order;
	return a->count < b->count ? -1 : a->count > b->count;
}

bool key_begins_with(const struct model_key *key, const struct model_key *prefix)
{
	return key->count >= prefix->count && memcmp(key->bytes, prefix->bytes, prefix->count) == 0;
}

uint32_t model_place(const struct model *model, const struct model_key *key)
{
	uint32_t lo = 0, hi = model->count;

	while (lo < hi) {
		uint32_t middle = (lo + hi) / 2;

		if (key_compare(&model->items[middle].key, key) < 0)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

static struct model_item *find(struct model *model, const struct model_key *key)
{
	uint32_t at = model_place(model, key);

	if (at == model->count || key_compare(&model->items[at].key, key) != 0)
		return NULL;
	return &model->items[at];
}

const struct model_item *model_find(const struct model *model, const struct model_key *key)
{
	return find((struct model *)model, key);
}

bool model_has_below(const struct model *model, const struct model_key *prefix)
{
	uint32_t at = model_place(model, prefix);

	return at < model->count && key_begins_with(&model->items[at].key, prefix);
}

static void put(struct model *model, const struct model_key *key, uint64_t value)
{
	uint32_t at = model_place(model, key);
	struct model_item *item = find(model, key);

	if (!item) {
		item = &model->items[at];
		memmove(item + 1, item, (model->count - at) * sizeof(*item));
		item->key = *key;
		model->count++;
	}
	item->value = value;
	item->version = 0;
}

static void erase(struct model *model, const struct model_key *key)
{
	struct model_item *item = find(model, key);

	if (!item)
		return;
	model->count--;
	memmove(item, item + 1,
	    (size_t)(&model->items[model->count] - item) * sizeof(*item));
}

static int check_version(struct model *model, const struct op *op)
{
	const struct model_item *item = find(model, &op->key);

	if (!item)
		return -ENOENT;
	return item->version == op->version && item->version ? 0 : -ESTALE;
}

static int rename_key(struct model *model, const struct op *op)
{
	const struct model_item *item = find(model, &op->key);
	uint64_t value;

	if (!item)
		return -ENOENT;
	if (!op->is_replacing && find(model, &op->destination))
		return -EEXIST;
	if (key_compare(&op->key, &op->destination) == 0)
		return 0;
	value = item->value;
	erase(model, &op->key);
	put(model, &op->destination, value);
	return 0;
}

static int compare_items(const void *a, const void *b)
{
	const struct model_item *x = a, *y = b;

	return key_compare(&x->key, &y->key);
}

static struct model_key moved(const struct model_key *key, const struct op *op)
{
	struct model_key to = op->destination;

	memcpy(to.bytes + to.count, key->bytes + op->key.count, key->count - op->key.count);
	to.count += key->count - op->key.count;
	return to;
}

bool model_move_fits(const struct model *model, const struct op *op)
{
	for (uint32_t i = 0; i < model->count; i++) {
		const struct model_key *key = &model->items[i].key;

		if (key_begins_with(key, &op->key) &&
		    key->count - op->key.count + op->destination.count > KEY_BYTES_MAX)
			return false;
	}
	return true;
}

static void drop_prefix(struct model *model, const struct model_key *prefix)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < model->count; i++)
		if (!key_begins_with(&model->items[i].key, prefix))
			model->items[kept++] = model->items[i];
	model->count = kept;
}

static int move_prefix(struct model *model, const struct op *op)
{
	if (key_begins_with(&op->key, &op->destination) ||
	    key_begins_with(&op->destination, &op->key))
		return -EINVAL;
	if (!model_has_below(model, &op->key))
		return -ENOENT;
	if (model_has_below(model, &op->destination))
		return -EEXIST;
	for (uint32_t i = 0; i < model->count; i++) {
		struct model_key *key = &model->items[i].key;

		if (key_begins_with(key, &op->key))
			*key = moved(key, op);
	}
	qsort(model->items, model->count, sizeof(model->items[0]), compare_items);
	return 0;
}

int model_apply(struct model *model, const struct op *op)
{
	bool is_there = find(model, &op->key);
	int err = 0;

	switch (op->kind) {
	case OP_RENAME:
		return rename_key(model, op);
	case OP_MOVE_PREFIX:
		return move_prefix(model, op);
	case OP_DROP_PREFIX:
		drop_prefix(model, &op->key);
		return 0;
	case OP_REQUIRE_PREFIX_EMPTY:
		return model_has_below(model, &op->key) ? -ENOTEMPTY : 0;
	case OP_PUT_IF_ABSENT:
	case OP_REQUIRE_ABSENT:
		err = is_there ? -EEXIST : 0;
		break;
	case OP_REQUIRE_PRESENT:
		err = is_there ? 0 : -ENOENT;
		break;
	case OP_COMPARE_AND_PUT:
	case OP_DELETE_IF_VERSION:
	case OP_REQUIRE_VERSION:
		err = check_version(model, op);
		break;
	default:
		break;
	}
	if (err)
		return err;
	if (op->kind <= OP_COMPARE_AND_PUT)
		put(model, &op->key, op->value);
	else if (op->kind <= OP_DELETE_IF_VERSION)
		erase(model, &op->key);
	return 0;
}

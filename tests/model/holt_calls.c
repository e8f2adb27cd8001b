#include "config.h"

#include "tests/model/holt_calls.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

const void *value_bytes(uint64_t value, size_t *ret_bytes)
{
	static uint8_t bytes[VALUE_BYTES_MAX];

	memcpy(bytes, &value, sizeof(value));
	*ret_bytes = sizeof(value) + min_of(value >> 56, 127ull) * 1024;
	return bytes;
}

int op_call(struct holt *holt, const struct op *op)
{
	const uint8_t *key = op->key.bytes;
	size_t count = op->key.count, bytes;
	const void *value = value_bytes(op->value, &bytes);

	switch (op->kind) {
	case OP_PUT:
		return holt_put(holt, key, count, value, bytes);
	case OP_PUT_IF_ABSENT:
		return holt_put_if_absent(holt, key, count, value, bytes);
	case OP_COMPARE_AND_PUT:
		return holt_compare_and_put(holt, key, count, op->version, value, bytes);
	case OP_DELETE:
		return holt_delete(holt, key, count);
	case OP_DELETE_IF_VERSION:
		return holt_delete_if_version(holt, key, count, op->version);
	case OP_RENAME:
		return holt_rename(holt, key, count, op->destination.bytes, op->destination.count,
		    op->is_replacing ? HOLT_REPLACE : 0);
	case OP_DROP_PREFIX:
		return holt_drop_prefix(holt, key, count);
	default:
		return holt_move_prefix(holt, key, count, op->destination.bytes,
		    op->destination.count);
	}
}

void op_add(struct holt_batch *batch, const struct op *op)
{
	const uint8_t *key = op->key.bytes;
	size_t count = op->key.count, bytes;
	const void *value = value_bytes(op->value, &bytes);

	switch (op->kind) {
	case OP_PUT:
		return holt_batch_put(batch, key, count, value, bytes);
	case OP_PUT_IF_ABSENT:
		return holt_batch_put_if_absent(batch, key, count, value, bytes);
	case OP_COMPARE_AND_PUT:
		return holt_batch_compare_and_put(batch, key, count, op->version, value, bytes);
	case OP_DELETE:
		return holt_batch_delete(batch, key, count);
	case OP_DELETE_IF_VERSION:
		return holt_batch_delete_if_version(batch, key, count, op->version);
	case OP_RENAME:
		return holt_batch_rename(batch, key, count, op->destination.bytes,
		    op->destination.count, op->is_replacing ? HOLT_REPLACE : 0);
	case OP_REQUIRE_PRESENT:
		return holt_batch_require_present(batch, key, count);
	case OP_REQUIRE_ABSENT:
		return holt_batch_require_absent(batch, key, count);
	case OP_REQUIRE_VERSION:
		return holt_batch_require_version(batch, key, count, op->version);
	case OP_REQUIRE_PREFIX_EMPTY:
		return holt_batch_require_prefix_empty(batch, key, count);
	case OP_DROP_PREFIX:
		return holt_batch_drop_prefix(batch, key, count);
	default:
		return holt_batch_move_prefix(batch, key, count, op->destination.bytes,
		    op->destination.count);
	}
}

/* Alone, what finds nothing says so. */
int model_call(struct model *model, const struct op *op)
{
	if (op->kind == OP_DELETE && !model_find(model, &op->key))
		return -ENOENT;
	if (op->kind == OP_DROP_PREFIX && !model_has_below(model, &op->key))
		return -ENOENT;
	return model_apply(model, op);
}

static bool names_key_below(const struct op *ops, uint32_t count, const struct op *move)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct model_key *keys[] = {&ops[i].key, &ops[i].destination};

		for (unsigned k = 0; k < (ops[i].kind == OP_RENAME ? 2u : 1u); k++)
			if (key_begins_with(keys[k], &move->key) ||
			    (move->kind == OP_MOVE_PREFIX &&
				key_begins_with(keys[k], &move->destination)))
				return true;
	}
	return false;
}

int model_batch(const struct model *model, const struct op *ops, uint32_t count,
    struct model *ret, size_t *ret_failed)
{
	const struct op *last = &ops[count - 1];

	*ret_failed = SIZE_MAX;
	*ret = *model;
	if (last->kind >= OP_MOVE_PREFIX && names_key_below(ops, count - 1, last)) {
		*ret_failed = count - 1;
		return -EINVAL;
	}
	for (uint32_t i = 0; i < count; i++) {
		int err = model_apply(ret, &ops[i]);

		if (err) {
			*ret_failed = i;
			return err;
		}
	}
	return 0;
}

/*
 * Filling a store.
 *
 * A load collects items into batches, as long as they have room in one frame; keys that
 * ascend fall into few, so a batch latches each of them once.  A key that comes
 * twice in a row of items must not be named twice in a batch of the store: the batch ends
 * before it.  Only ascending keys are known to differ without looking, so any other order
 * ends the batch as well.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct load {
	struct holt *holt;
	struct store_batch *batch;
	uint32_t items, room;
	uint8_t last[HOLT_KEY_MAX];
	size_t last_bytes;
};

static int flush_load(struct load *load)
{
	int err = load->items ? holt_commit(load->holt, load->batch, JOURNAL_LOSSY) : 0;

	store_batch_reset(load->batch);
	load->items = 0;
	load->room = 0;
	return err;
}

static bool is_ascending(const struct load *load, const void *key, size_t key_bytes)
{
	int order = memcmp(load->last, key, min_of(load->last_bytes, key_bytes));

	return order < 0 || (order == 0 && load->last_bytes < key_bytes);
}

static int load_item(struct load *load, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes)
{
	int err = holt_check_new_key(key, key_bytes);
	uint32_t room;

	if (!err)
		err = holt_check_value(value, value_bytes);
	if (err)
		return err;
	room = store_put_room((uint32_t)key_bytes, (uint32_t)value_bytes);
	if (load->items && (load->room + room > STORE_ROOM_MAX || !is_ascending(load, key, key_bytes)))
		err = flush_load(load);
	if (err)
		return err;
	store_batch_put(load->batch, key, (uint32_t)key_bytes, value, (uint32_t)value_bytes);
	load->items++;
	load->room += room;
	memcpy(load->last, key, key_bytes);
	load->last_bytes = key_bytes;
	return 0;
}

static int load_all(struct load *load, int (*next)(void *ctx, const void **key,
    size_t *key_bytes, const void **value, size_t *value_bytes), void *ctx)
{
	const void *key = NULL, *value = NULL;
	size_t key_bytes = 0, value_bytes = 0;
	int more, err = 0;

	while (!err && (more = next(ctx, &key, &key_bytes, &value, &value_bytes)) != 0) {
		if (more < 0)
			return more;
		err = load_item(load, key, key_bytes, value, value_bytes);
	}
	if (!err)
		err = flush_load(load);
	return err ? err : holt_sync(load->holt, HOLT_DEFAULT);
}

int holt_load(struct holt *holt, int (*next)(void *ctx, const void **key, size_t *key_bytes,
    const void **value, size_t *value_bytes), void *ctx)
{
	struct load *load;
	int err;

	if (!holt || !next)
		return -EINVAL;
	load = malloc(sizeof(*load));
	if (!load)
		return -ENOMEM;
	*load = (struct load){.holt = holt};
	err = store_batch_create(holt->store, &load->batch);
	if (!err) {
		err = load_all(load, next, ctx);
		store_batch_destroy(load->batch);
	}
	free(load);
	return err;
}

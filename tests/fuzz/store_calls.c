/*
 * Calls of store.h made of bytes.  Keys are made of few letters, so that calls meet what
 * others did; values are of sizes that fill frames with few calls.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "store/store.h"
#include "tree/tree.h"

#define LOADS_MAX 200

static const uint32_t value_sizes[] = {0, 1, 8, 100, 1000, 9000, 60000, STORE_VALUE_MAX};

static uint8_t value_bytes[STORE_VALUE_MAX];

void fuzz_store_format(struct fuzz_disk *disk, uint64_t bytes)
{
	const struct store_format_options options = {.uuid = "0123456789abcde"};
	struct device *device;

	fuzz_disk_make(disk, bytes);
	device = fuzz_disk_device(disk);
	FUZZ_CHECK(store_format(device, &options) == 0);
	device_close(device);
}

struct store *fuzz_store_open(struct fuzz_disk *disk)
{
	const struct store_options options = {.cache_bytes = FUZZ_CACHE_BYTES, .no_threads = true};
	struct device *device = fuzz_disk_device(disk);
	struct store *store;

	if (store_open(device, &options, &store) == 0)
		return store;
	device_close(device);
	return NULL;
}

uint32_t fuzz_key(struct fuzz_input *input, uint8_t *ret)
{
	static const uint8_t letters[] = {'a', 'b', '\0', 0xff};
	uint8_t head = fuzz_byte(input);
	uint32_t parts = 1 + head % 4, count = 0;

	for (uint32_t i = 0; i < parts; i++) {
		uint8_t part = i ? fuzz_byte(input) : head >> 2;

		ret[count++] = part & 32 ? part : letters[part % 4];
		if (part & 4)
			ret[count++] = letters[part >> 3 & 3];
		if (i + 1 < parts || part & 16)
			ret[count++] = '/';
	}
	return count;
}

static void put(struct store *store, struct fuzz_input *input, struct store_batch *batch)
{
	uint8_t key[FUZZ_KEY_BYTES], size = fuzz_byte(input);
	uint32_t count = fuzz_key(input, key);
	uint32_t bytes = value_sizes[size % ARRAY_COUNT(value_sizes)];

	memset(value_bytes, size, bytes);
	if (batch)
		store_batch_put(batch, key, count, value_bytes, bytes);
	else
		(void)store_put(store, key, count, value_bytes, bytes, NULL, NULL);
}

static void use_blocks(struct store *store, struct fuzz_input *input, struct store_batch *batch)
{
	uint32_t checksums[4] = {0};
	struct space_run run;

	if (store_alloc_blocks(store, 1 + fuzz_byte(input) % 4, &run) == 0)
		store_batch_use_blocks(batch, run.block, run.count, checksums);
}

static void add(struct store *store, struct fuzz_input *input, struct store_batch *batch)
{
	uint8_t key[FUZZ_KEY_BYTES], other[FUZZ_KEY_BYTES], kind = fuzz_byte(input);
	uint32_t count = fuzz_key(input, key);

	switch (kind % 8) {
	case 0:
	case 1:
		return put(store, input, batch);
	case 2:
		return store_batch_delete(batch, key, count);
	case 3:
		return store_batch_move_prefix(batch, key, count, other, fuzz_key(input, other));
	case 4:
		return store_batch_drop_prefix(batch, key, count);
	case 5:
		return use_blocks(store, input, batch);
	case 6:
		return store_batch_require_absent(batch, key, count);
	default:
		return store_batch_require_prefix_empty(batch, key, count);
	}
}

static void commit(struct store *store, struct fuzz_input *input)
{
	uint32_t count = 1 + fuzz_byte(input) % 6;
	struct store_batch *batch;

	if (store_batch_create(store, &batch))
		return;
	for (uint32_t i = 0; i < count; i++)
		add(store, input, batch);
	(void)store_commit(store, batch, NULL);
	store_batch_destroy(batch);
}

/* Many keys of one kind: what makes wide nodes and full frames. */
static void load(struct store *store, struct fuzz_input *input)
{
	uint32_t count = 1 + fuzz_byte(input) % LOADS_MAX, step = 1 + fuzz_byte(input);
	uint8_t key[FUZZ_KEY_BYTES + 2], size = fuzz_byte(input);
	uint32_t key_bytes = fuzz_key(input, key), bytes = value_sizes[size % 6];

	memset(value_bytes, size, bytes);
	for (uint32_t i = 0; i < count; i++) {
		key[key_bytes] = (uint8_t)(i * step);
		key[key_bytes + 1] = (uint8_t)(i * step >> 8);
		(void)store_put(store, key, key_bytes + 2, value_bytes, bytes, NULL, NULL);
	}
}

static int take_run(void *ctx, struct tree_scan *run)
{
	for (uint32_t i = 0; i < run->count; i++)
		tree_scan_take(run, &run->items[i]);
	return 0;
}

static int ignore(void *ctx, const struct store_item *item)
{
	return 0;
}

static void read_some(struct store *store, struct fuzz_input *input)
{
	uint8_t key[FUZZ_KEY_BYTES], prefix[FUZZ_KEY_BYTES], how = fuzz_byte(input);
	uint32_t count = fuzz_key(input, key), bytes;
	struct store_range range = {
	    .prefix = prefix,
	    .start = key,
	    .start_bytes = count,
	    .is_after = how & 1,
	    .has_delimiter = how & 2,
	    .delimiter = '/',
	    .keys_only = how & 4,
	};

	range.prefix_bytes = how & 8 ? fuzz_key(input, prefix) : 0;
	(void)store_get(store, key, count, value_bytes, sizeof(value_bytes), &bytes, NULL);
	(void)store_longest_prefix(store, key, count, &count, value_bytes, sizeof(value_bytes), &bytes,
	    NULL);
	(void)store_visit(store, &range, how >> 4, ignore, NULL);
	(void)store_is_prefix_empty(store, key, range.start_bytes);
}

void fuzz_store_call(struct store *store, struct fuzz_input *input)
{
	uint8_t key[FUZZ_KEY_BYTES], kind = fuzz_byte(input);

	switch (kind % 10) {
	case 0:
	case 1:
		return put(store, input, NULL);
	case 2:
		(void)store_delete(store, key, fuzz_key(input, key), NULL, NULL);
		return;
	case 3:
	case 4:
		return commit(store, input);
	case 5:
		return load(store, input);
	case 6:
	case 7:
		return read_some(store, input);
	case 8:
		(void)store_checkpoint(store);
		return;
	default:
		(void)store_compact(store, NULL, 0, NULL, NULL);
	}
}

static int ignore_frame(void *ctx, const struct store_frame *frame)
{
	return 0;
}

void fuzz_store_read(struct store *store)
{
	const struct store_range groups = {.has_delimiter = true, .delimiter = '/', .keys_only = true};
	struct store_view *view;

	(void)store_visit(store, NULL, 0, ignore, NULL);
	(void)store_visit(store, &groups, 0, ignore, NULL);
	(void)store_for_each_frame(store, ignore_frame, NULL);
	if (store_view_open(store, &view))
		return;
	(void)store_view_visit_runs(view, NULL, 0, take_run, NULL);
	store_view_close(view);
}

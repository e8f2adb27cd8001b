/*
 * Sequences of calls of holt.h beside a plain sorted map.
 *
 * Input: a byte with flags, then calls.  Every answer and every listing is compared; values
 * are up to some dozens of KiB, so that frames are full after a few calls.  A store may be
 * closed and opened again at any time, or lose everything that was not synced.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/model/holt_calls.h"

#define DISK_BYTES (24ull << 20)
#define CALLS_MAX 200
#define BATCH_OPS 8
#define ITEMS_MOST 400

#define IN_MEMORY 1u
#define NO_MERGE 2u

static struct fuzz_disk disk;
static struct model model, scratch, viewed;
static struct holt *holt;
static struct holt_batch *batch;
static struct holt_view *view; /* of viewed */
static uint64_t next_value;
static unsigned flags;

/* ---- the store ------------------------------------------------------------------------ */

static void open_store(void)
{
	static const struct holt_device device = {
	    .ctx = &disk,
	    .bytes = DISK_BYTES,
	    .read = fuzz_disk_read,
	    .write = fuzz_disk_write,
	    .flush = fuzz_disk_flush,
	};
	struct holt_options options = HOLT_OPTIONS_INIT;
	int err;

	options.flags = HOLT_CREATE | HOLT_NO_THREADS | (flags & NO_MERGE ? HOLT_NO_MERGE : 0);
	options.cache_bytes = FUZZ_CACHE_BYTES;
	options.durability = HOLT_LOSSY; /* needs no shared memory */
	err = flags & IN_MEMORY ? holt_open_memory(&options, &holt)
				: holt_open_device(&device, &options, &holt);
	FUZZ_CHECK(err == 0);
	FUZZ_CHECK(holt_batch_create(holt, &batch) == 0);
}

static void close_store(void)
{
	int err;

	holt_batch_destroy(batch);
	holt_view_close(view);
	view = NULL;
	err = holt_close(holt);
	FUZZ_CHECK(err == 0 || disk.is_dead);
	disk.is_dead = false;
}

/* An empty store, so that none is made for each input. */
static void make_disk(void)
{
	fuzz_disk_make(&disk, DISK_BYTES);
	flags = 0;
	open_store();
	close_store();
	fuzz_disk_freeze(&disk);
}

/* ---- picking ---------------------------------------------------------------------------- */

static struct model_key pick_key(struct fuzz_input *input)
{
	struct model_key key;

	if (model.count && input->left && *input->at & 128)
		return model.items[fuzz_byte(input) % 128 % model.count].key;
	key.count = fuzz_key(input, key.bytes);
	return key;
}

static struct op pick_op(struct fuzz_input *input, enum op_kind kind)
{
	uint8_t how = fuzz_byte(input);
	struct op op = {.kind = kind, .is_replacing = how & 1};
	const struct model_item *item;

	op.key = pick_key(input);
	if (kind == OP_RENAME || kind == OP_MOVE_PREFIX)
		op.destination = pick_key(input);
	/* KiB of zeros behind the number. */
	op.value = ++next_value | (how & 8 ? (uint64_t)(how >> 4) * 8 << 56 : 0);
	item = model_find(&model, &op.key);
	op.version = item && !(how & 2) ? item->version : 1;
	return op;
}

/* ---- changing ---------------------------------------------------------------------------- */

static void learn_versions(void)
{
	for (uint32_t i = 0; i < model.count; i++) {
		struct model_item *item = &model.items[i];

		if (item->version == 0)
			FUZZ_CHECK(holt_get_version(holt, item->key.bytes, item->key.count,
				       &item->version) == 0);
	}
}

/* A full store refuses; nothing has changed then. */
static bool is_full(int err)
{
	return err == -ENOSPC || (err == -E2BIG && flags & IN_MEMORY);
}

static void do_single(struct fuzz_input *input)
{
	static const enum op_kind kinds[] = {OP_PUT, OP_PUT, OP_PUT_IF_ABSENT, OP_COMPARE_AND_PUT,
	    OP_DELETE, OP_DELETE_IF_VERSION, OP_RENAME, OP_MOVE_PREFIX, OP_DROP_PREFIX};
	struct op op = pick_op(input, kinds[fuzz_byte(input) % ARRAY_COUNT(kinds)]);
	int err;

	if (op.kind == OP_MOVE_PREFIX && !model_move_fits(&model, &op))
		return;
	err = op_call(holt, &op);
	if (is_full(err))
		return;
	FUZZ_CHECK(err == model_call(&model, &op));
	learn_versions();
}

static void do_batch(struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input);
	uint32_t count = 1 + how % BATCH_OPS;
	struct op ops[BATCH_OPS + 1];
	size_t failed;
	int expected, err;

	holt_batch_reset(batch);
	for (uint32_t i = 0; i < count; i++)
		ops[i] = pick_op(input, (enum op_kind)(fuzz_byte(input) % OP_MOVE_PREFIX));
	if (how & 64) {
		ops[count] = pick_op(input, how & 128 ? OP_MOVE_PREFIX : OP_DROP_PREFIX);
		if (how & 128 && !model_move_fits(&model, &ops[count]))
			return;
		count++;
	}
	for (uint32_t i = 0; i < count; i++)
		op_add(batch, &ops[i]);
	err = holt_batch_commit(batch, how & 32 ? HOLT_SYNC : HOLT_LOSSY);
	if (is_full(err))
		return;
	expected = model_batch(&model, ops, count, &scratch, &failed);
	FUZZ_CHECK(err == expected);
	FUZZ_CHECK(holt_batch_failed(batch) == failed);
	if (!err)
		model = scratch;
	learn_versions();
}

/* Keys side by side: wide nodes. */
static void do_load(struct fuzz_input *input)
{
	struct op op = {.kind = OP_PUT, .key = {.count = FUZZ_KEY_BYTES}};
	uint8_t count = fuzz_byte(input), step = fuzz_byte(input), how = fuzz_byte(input);
	uint32_t key_bytes = fuzz_key(input, op.key.bytes);

	op.key.count = key_bytes + 1;
	for (unsigned i = 0; i < count % 64u && model.count < ITEMS_MOST; i++) {
		op.key.bytes[key_bytes] = (uint8_t)(i * (step | 1u));
		op.value = ++next_value | (uint64_t)(how >> 4) << 56;
		if (is_full(op_call(holt, &op)))
			break;
		FUZZ_CHECK(model_call(&model, &op) == 0);
	}
	learn_versions();
}

/* ---- comparing ---------------------------------------------------------------------------- */

struct walk {
	const struct model *model;
	struct holt_range range;
	struct model_key prefix, start;
	uint32_t at; /* next item of the model */
	size_t visits, limit;
};

static uint32_t common_bytes(const struct walk *walk, const struct model_key *key)
{
	for (uint32_t i = walk->prefix.count; walk->range.has_delimiter && i < key->count; i++)
		if (key->bytes[i] == walk->range.delimiter)
			return i + 1;
	return 0;
}

static bool is_past(const struct walk *walk, const struct model_key *key)
{
	int order = key_compare(key, &walk->start);

	if (walk->start.count == 0 || !walk->range.is_after)
		return order >= 0;
	if (key_begins_with(&walk->start, &walk->prefix) &&
	    common_bytes(walk, &walk->start) == walk->start.count && key_begins_with(key, &walk->start))
		return false;
	return order > 0;
}

static const struct model_item *next_item(struct walk *walk)
{
	while (walk->at < walk->model->count) {
		const struct model_item *item = &walk->model->items[walk->at++];

		if (key_begins_with(&item->key, &walk->prefix) && is_past(walk, &item->key))
			return item;
	}
	return NULL;
}

static bool is_value(const void *value, size_t bytes, uint64_t number)
{
	size_t wanted;
	const void *want = value_bytes(number, &wanted);

	return bytes == wanted && memcmp(value, want, bytes) == 0;
}

static int compare_item(void *ctx, const struct holt_item *item)
{
	struct walk *walk = ctx;
	const struct model_item *wanted = next_item(walk);
	struct model_key group;
	uint32_t common;

	FUZZ_CHECK(wanted);
	walk->visits++;
	common = common_bytes(walk, &wanted->key);
	FUZZ_CHECK(item->is_prefix == (common != 0));
	FUZZ_CHECK(item->key_bytes == (common ? common : wanted->key.count));
	FUZZ_CHECK(memcmp(item->key, wanted->key.bytes, item->key_bytes) == 0);
	if (!common) {
		FUZZ_CHECK(!item->value == !!(walk->range.flags & HOLT_KEYS_ONLY));
		FUZZ_CHECK(!item->value || is_value(item->value, item->value_bytes, wanted->value));
		FUZZ_CHECK(!item->value || item->version == wanted->version);
		return 0;
	}
	group = wanted->key;
	group.count = common;
	while (walk->at < walk->model->count && key_begins_with(&walk->model->items[walk->at].key, &group))
		walk->at++;
	return 0;
}

static void do_walk(struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input);
	struct walk walk = {.model = &model, .limit = how & 1 ? 1 + fuzz_byte(input) % 32 : 0};

	if (how & 2)
		walk.prefix = pick_key(input);
	if (how & 4)
		walk.start = pick_key(input);
	walk.range = (struct holt_range){
	    .prefix = walk.prefix.bytes,
	    .prefix_bytes = walk.prefix.count,
	    .start = walk.start.bytes,
	    .start_bytes = walk.start.count,
	    .is_after = how & 8,
	    .has_delimiter = how & 16,
	    .delimiter = how & 32 ? 0xff : '/',
	    .flags = how & 64 ? HOLT_KEYS_ONLY : 0,
	};
	FUZZ_CHECK(holt_visit(holt, &walk.range, walk.limit, compare_item, &walk) == 0);
	if (walk.limit == 0 || walk.visits < walk.limit)
		FUZZ_CHECK(!next_item(&walk));
	if (walk.prefix.count)
		FUZZ_CHECK(holt_is_prefix_empty(holt, walk.prefix.bytes, walk.prefix.count) ==
			   !model_has_below(&model, &walk.prefix));
}

static void do_get(struct fuzz_input *input)
{
	static uint8_t value[VALUE_BYTES_MAX];
	struct model_key key = pick_key(input), begin;
	const struct model_item *item = model_find(&model, &key);
	size_t bytes, key_bytes = 0;
	uint64_t version;
	int err = holt_get(holt, key.bytes, key.count, value, sizeof(value), &bytes, &version);

	FUZZ_CHECK(err == (item ? 0 : -ENOENT));
	FUZZ_CHECK(!item || (is_value(value, bytes, item->value) && version == item->version));
	err = holt_longest_prefix(holt, key.bytes, key.count, &key_bytes, NULL, 0, NULL, NULL);
	FUZZ_CHECK(err == -ERANGE || err == -ENOENT);
	for (begin = key; begin.count && !model_find(&model, &begin); begin.count--)
		;
	FUZZ_CHECK(begin.count == (err == -ENOENT ? 0 : key_bytes));
}

static void compare_all(void)
{
	struct walk walk = {.model = &model};

	FUZZ_CHECK(holt_visit(holt, NULL, 0, compare_item, &walk) == 0);
	FUZZ_CHECK(walk.visits == model.count);
}

/* Opens a view, or compares the one that is open, and perhaps closes it. */
static void do_view(struct fuzz_input *input)
{
	struct walk walk = {.model = &viewed};
	uint8_t how = fuzz_byte(input);
	int err;

	if (!view) {
		FUZZ_CHECK(holt_view_open(holt, NULL, 0, &view) == 0);
		viewed = model;
		return;
	}
	err = holt_view_visit(view, NULL, 0, compare_item, &walk);
	FUZZ_CHECK(err == -ESTALE || (err == 0 && walk.visits == viewed.count));
	if (how & 1 && err == 0)
		return;
	holt_view_close(view);
	view = NULL;
}

/* ---- runs --------------------------------------------------------------------------------- */

static void do_upkeep(struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input) % 4;

	if (how == 0) {
		int err = holt_compact(holt, NULL, 0, NULL, NULL);

		FUZZ_CHECK(err == 0 || is_full(err));
	} else if (flags & IN_MEMORY) {
		return;
	} else if (how == 1) {
		FUZZ_CHECK(holt_checkpoint(holt) == 0);
	} else {
		/* As if the power went, behind a sync. */
		if (how == 2) {
			FUZZ_CHECK(holt_sync(holt, HOLT_SYNC) == 0);
			disk.is_dead = true;
		}
		close_store();
		open_store();
		compare_all();
	}
}

static void do_call(struct fuzz_input *input)
{
	switch (fuzz_byte(input) % 12) {
	case 0:
	case 1:
	case 2:
		return do_single(input);
	case 3:
	case 4:
	case 5:
		return do_batch(input);
	case 6:
		return do_load(input);
	case 7:
	case 8:
		return do_walk(input);
	case 9:
		return do_get(input);
	case 10:
		return do_view(input);
	default:
		return do_upkeep(input);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};

	if (disk.frozen)
		fuzz_disk_renew(&disk);
	else
		make_disk();
	model.count = 0;
	next_value = 0;
	flags = fuzz_byte(&input);
	open_store();
	for (unsigned i = 0; i < CALLS_MAX && input.left && model.count < ITEMS_MOST; i++)
		do_call(&input);
	compare_all();
	close_store();
	return 0;
}

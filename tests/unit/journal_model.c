#include "config.h"

#include "tests/unit/journal_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/support/support.h"

static uint64_t mix(uint64_t number)
{
	uint64_t state = number * 0x9e3779b97f4a7c15ull + 1;

	return support_random(&state);
}

/* Mostly short, some empty, a few of several blocks. */
uint32_t model_body_bytes(uint64_t number)
{
	uint64_t random = mix(number);

	switch (random % 16) {
	case 0:
		return 0;
	case 1:
		return (uint32_t)(random >> 8) % MODEL_BODY_MAX;
	case 2:
		return (uint32_t)(random >> 8) % BLOCK_BYTES;
	default:
		return (uint32_t)(random >> 8) % 300;
	}
}

static void fill_body(uint64_t number, uint8_t *body, uint32_t bytes)
{
	uint64_t state = mix(number) | 1;

	for (uint32_t i = 0; i < bytes; i++)
		body[i] = (uint8_t)support_random(&state);
}

static void open_journal(struct model *model)
{
	ck_ok(journal_open(&model->options, &model->journal));
}

/* Other tests may run at the same time, with shared rings of their own. */
static void make_uuid(uint8_t uuid[UUID_BYTES])
{
	pid_t pid = getpid();

	memset(uuid, 0x5a, UUID_BYTES);
	memcpy(uuid, &pid, sizeof(pid));
}

void model_open(struct model *model, uint64_t log_bytes, lsn_t start)
{
	struct device *device;

	ck_ok(device_open_memory(MODEL_OFFSET + log_bytes + FRAME_BYTES, &device));
	*model = (struct model){.options = {
				    .place = {device, MODEL_OFFSET, log_bytes, {0}},
				    .start = start,
				    .open_id = 7,
				}};
	make_uuid(model->options.place.uuid);
	open_journal(model);
}

void model_open_shared(struct model *model, struct device *device,
    uint64_t log_bytes, lsn_t start)
{
	*model = (struct model){.options = {
				    .place = {device, MODEL_OFFSET, log_bytes, {0}},
				    .start = start,
				    .open_id = 7,
				    .ring_bytes = 256 * 1024,
				    .is_shared = true,
				}};
	make_uuid(model->options.place.uuid);
	open_journal(model);
}

void model_reopen(struct model *model, lsn_t start)
{
	model->options.start = start;
	open_journal(model);
}

void model_close(struct model *model, bool is_clean)
{
	journal_close(model->journal, is_clean);
	model->journal = NULL;
}

void model_destroy(struct model *model)
{
	model_close(model, true);
	device_close(model->options.place.device);
}

int model_try_append(struct model *model, struct model_position *ret)
{
	static _Thread_local uint8_t body[MODEL_BODY_MAX];
	uint32_t bytes = model_body_bytes(model->next);
	uint32_t split = bytes / 3;
	struct iovec pieces[3] = {
	    {body, split},
	    {NULL, 0},
	    {body + split, bytes - split},
	};
	int err = journal_reserve(model->journal, bytes);

	if (err)
		return err;
	fill_body(model->next, body, bytes);
	ret->lsn = journal_append(model->journal, JOURNAL_BATCH, pieces, 3, &ret->end);
	model->next++;
	return 0;
}

struct model_position model_append(struct model *model)
{
	struct model_position position;

	ck_ok(model_try_append(model, &position));
	return position;
}

void model_append_and_sync(struct model *model, unsigned count)
{
	struct model_position position = {0, 0};

	for (unsigned i = 0; i < count; i++)
		position = model_append(model);
	ck_ok(journal_sync(model->journal, position.end, JOURNAL_SYNC));
	ck_assert_uint_ge(journal_durable(model->journal), position.end);
}

struct model_position model_append_zeros(struct model *model, uint32_t body_bytes)
{
	struct model_position position;
	uint8_t *body = calloc(1, body_bytes + 1);
	struct iovec piece = {body, body_bytes};

	ck_assert_ptr_nonnull(body);
	ck_ok(journal_reserve(model->journal, body_bytes));
	position.lsn = journal_append(model->journal, JOURNAL_BATCH, &piece, 1, &position.end);
	free(body);
	return position;
}

struct comparison {
	uint64_t first, count;
	lsn_t last_end;
};

static int compare_record(void *ctx, lsn_t lsn, lsn_t end, lsn_t known_durable,
    const void *body, uint32_t body_bytes)
{
	static uint8_t expected[MODEL_BODY_MAX];
	struct comparison *comparison = ctx;
	uint64_t number = comparison->first + comparison->count;

	(void)known_durable;
	ck_assert_uint_eq(body_bytes, model_body_bytes(number));
	fill_body(number, expected, body_bytes);
	ck_assert_int_eq(memcmp(body, expected, body_bytes), 0);
	ck_assert_uint_ge(lsn, comparison->last_end);
	ck_assert_uint_eq(end, round_up(lsn + sizeof(struct journal_record) + body_bytes, 8));
	comparison->last_end = end;
	comparison->count++;
	return 0;
}

uint64_t model_read(struct model *model, lsn_t from, uint64_t first, lsn_t *ret_end)
{
	struct comparison comparison = {.first = first, .last_end = from};
	lsn_t end;

	ck_ok(journal_read(&model->options.place, from, model->options.open_id,
	    compare_record, &comparison, &end));
	ck_assert_uint_ge(end, comparison.last_end);
	if (ret_end)
		*ret_end = end;
	return comparison.count;
}

static int count_record(void *ctx, lsn_t lsn, lsn_t end, lsn_t known_durable,
    const void *body, uint32_t body_bytes)
{
	(void)lsn, (void)end, (void)known_durable, (void)body, (void)body_bytes;
	(*(uint64_t *)ctx)++;
	return 0;
}

int model_read_any(const struct journal_place *place, lsn_t from, uint64_t open_id,
    uint64_t *ret_count, lsn_t *ret_end)
{
	*ret_count = 0;
	return journal_read(place, from, open_id, count_record, ret_count, ret_end);
}

uint8_t *model_copy_log(struct model *model)
{
	const struct journal_place *place = &model->options.place;
	uint8_t *bytes = aligned_alloc(DEVICE_ALIGN, place->bytes);

	ck_assert_ptr_nonnull(bytes);
	ck_ok(device_read(place->device, bytes, (uint32_t)place->bytes, place->offset));
	return bytes;
}

void model_write_log(struct model *model, const uint8_t *bytes)
{
	const struct journal_place *place = &model->options.place;

	ck_ok(device_write(place->device, bytes, (uint32_t)place->bytes, place->offset));
}

void model_damage(struct model *model, lsn_t lsn)
{
	const struct journal_place *place = &model->options.place;
	uint8_t *log = model_copy_log(model);

	log[lsn % place->bytes] ^= 0xff;
	model_write_log(model, log);
	free(log);
}

/*
 * Logs as crashes and bad disks leave them: one cut short ends where it was cut,
 * one that lost what had been durable is told from it, nothing foreign verifies.
 *
 * Method: the log's bytes on a memory device are replaced and read again.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/support/support.h"
#include "tests/unit/journal_model.h"

#define LOG_BYTES (1024u * 1024)
#define HEADER_BYTES ((uint32_t)sizeof(struct journal_record))

static struct model model;

static void setup(void)
{
	model_open(&model, LOG_BYTES, 5 * BLOCK_BYTES);
}

static void teardown(void)
{
	model_destroy(&model);
}

static void append_and_sync(unsigned count)
{
	model_append_and_sync(&model, count);
}

/* ---- logs cut short ---------------------------------------------------------------- */

/* The last flush, whose writes the crash met. */
struct last_flush {
	uint8_t *before, *after;
	lsn_t from, to;
	uint64_t synced;
};

static void make_last_flush(struct last_flush *flush)
{
	append_and_sync(30);
	flush->synced = model.next;
	flush->from = journal_end(model.journal);
	flush->before = model_copy_log(&model);
	append_and_sync(60);
	flush->to = journal_end(model.journal);
	flush->after = model_copy_log(&model);
	ck_assert_uint_gt(flush->to - flush->from, 4 * BLOCK_BYTES);
}

static void free_last_flush(struct last_flush *flush)
{
	free(flush->before);
	free(flush->after);
}

START_TEST(journal_replay_stops_at_torn_flush)
{
	struct last_flush flush;
	uint64_t count = 0;
	uint8_t *log;

	make_last_flush(&flush);
	log = model_copy_log(&model);
	for (lsn_t cut = flush.from; cut <= flush.to; cut += 512) {
		uint64_t present;
		lsn_t end, hole = cut;

		/* What is missing may be zeros, as the end of a PAD is. */
		while (hole < flush.to && memcmp(flush.before + hole, flush.after + hole, 512) == 0)
			hole += 512;
		memcpy(log, flush.before, LOG_BYTES);
		memcpy(log + flush.from, flush.after + flush.from, cut - flush.from);
		model_write_log(&model, log);
		present = model_read(&model, model.options.start, 0, &end);
		ck_assert_uint_le(end, hole);
		ck_assert_uint_ge(present, max_of(count, flush.synced));
		count = present;
	}
	ck_assert_uint_eq(count, model.next);
	free(log);
	free_last_flush(&flush);
}
END_TEST

/* Sectors of one flush reach the disk in any order. */
START_TEST(journal_replay_takes_any_subset_of_a_flush)
{
	uint64_t seed = support_seed(12);
	struct last_flush flush;
	uint8_t *log;

	make_last_flush(&flush);
	log = model_copy_log(&model);
	for (int i = 0; i < 300; i++) {
		lsn_t first_hole = flush.to, end;

		memcpy(log, flush.before, LOG_BYTES);
		for (lsn_t at = flush.from; at < flush.to; at += 512) {
			if (support_random_below(&seed, 8) != 0)
				memcpy(log + at, flush.after + at, 512);
			else if (memcmp(log + at, flush.after + at, 512) != 0)
				first_hole = min_of(first_hole, at);
		}
		model_write_log(&model, log);
		ck_assert_uint_ge(model_read(&model, model.options.start, 0, &end), flush.synced);
		ck_assert_uint_le(end, first_hole);
	}
	free(log);
	free_last_flush(&flush);
}
END_TEST

START_TEST(journal_garbage_and_zeros_end_the_log)
{
	uint64_t seed = support_seed(13);
	lsn_t end, log_end;
	uint8_t *log;

	append_and_sync(40);
	log = model_copy_log(&model);
	log_end = journal_end(model.journal);
	for (int round = 0; round < 20; round++) {
		for (lsn_t at = log_end; at < LOG_BYTES; at++)
			log[at] = round ? (uint8_t)support_random(&seed) : 0;
		model_write_log(&model, log);
		ck_assert_uint_eq(model_read(&model, model.options.start, 0, &end), 40);
		ck_assert_uint_eq(end, log_end);
	}
	free(log);
}
END_TEST

/* Lengths from disk: each header field of the last record in turn, any value. */
START_TEST(journal_any_header_byte_may_lie)
{
	uint64_t seed = support_seed(14);
	struct model_position position;
	uint8_t *log;
	lsn_t end;

	append_and_sync(5);
	position = model_append_zeros(&model, 100);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	log = model_copy_log(&model);
	for (int i = 0; i < 400; i++) {
		uint64_t at = position.lsn + support_random_below(&seed, HEADER_BYTES);
		uint8_t was = log[at];

		log[at] ^= (uint8_t)(1 + support_random_below(&seed, 255));
		model_write_log(&model, log);
		ck_assert_uint_eq(model_read(&model, model.options.start, 0, &end), 5);
		ck_assert_uint_eq(end, position.lsn);
		log[at] = was;
	}
	free(log);
}
END_TEST

START_TEST(journal_bytes_of_the_lap_before_never_verify)
{
	lsn_t end, start = model.options.start;
	uint64_t count;

	append_and_sync(50);
	for (int laps = 1; laps < 4; laps++) {
		lsn_t from = start + (lsn_t)laps * LOG_BYTES;

		ck_ok(model_read_any(&model.options.place, from, 7, &count, &end));
		ck_assert_uint_eq(count, 0);
		ck_assert_uint_eq(end, from);
	}
}
END_TEST

START_TEST(journal_records_moved_or_of_another_volume_never_verify)
{
	lsn_t end, start = model.options.start;
	struct journal_place place = model.options.place;
	uint64_t count;

	append_and_sync(50);
	place.uuid[9] ^= 1;
	ck_ok(model_read_any(&place, start, 7, &count, &end));
	ck_assert_uint_eq(count, 0);
	place.uuid[9] ^= 1;
	place.offset -= BLOCK_BYTES;
	ck_ok(model_read_any(&place, start + BLOCK_BYTES, 7, &count, &end));
	ck_assert_uint_eq(count, 0);
	ck_assert_uint_eq(end, start + BLOCK_BYTES);
}
END_TEST

/* ---- power cuts ---------------------------------------------------------------- */

#define MOMENTS_MAX 4000u

/* What had been promised when the device had seen so many writes and flushes. */
struct moment {
	uint32_t events;
	lsn_t tail;
	uint64_t first, synced; /* records from the tail on; below that durable */
};

static struct moment moments[MOMENTS_MAX];
static unsigned moment_count;

static void note_moment(lsn_t tail, uint64_t first, uint64_t synced)
{
	ck_assert_uint_lt(moment_count, MOMENTS_MAX);
	moments[moment_count++] = (struct moment){
	    recording_event_count(model.options.place.device), tail, first, synced};
}

/* Three laps of appends with syncs, ring-full writes, lone writes and checkpoints. */
static void work_for_three_laps(uint64_t *seed)
{
	lsn_t tail = model.options.start;
	uint64_t first = 0, synced = 0;

	while (journal_end(model.journal) < 3 * LOG_BYTES) {
		struct model_position position = model_append(&model);
		uint64_t random = support_random_below(seed, 1000);

		if (random < 4) {
			ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
			synced = model.next;
		} else if (random < 8) {
			ck_ok(journal_sync(model.journal, position.end, JOURNAL_PROCESS));
		}
		if (journal_end(model.journal) - tail > LOG_BYTES / 2) {
			tail = journal_cut(model.journal);
			journal_set_tail(model.journal, tail);
			first = synced = model.next;
		}
		note_moment(tail, first, synced);
	}
}

static void check_power_cut(uint32_t cut, uint64_t seed, enum recording_tear tear,
    const struct moment *moment)
{
	struct model after = model;
	uint64_t count;

	ck_ok(recording_cut(model.options.place.device, cut, seed, tear,
	    &after.options.place.device));
	count = model_read(&after, moment->tail, moment->first, NULL);
	ck_assert_uint_ge(moment->first + count, moment->synced);
	device_close(after.options.place.device);
}

START_TEST(journal_power_cut_loses_nothing_synced)
{
	uint64_t seed = support_seed(15);
	uint32_t device_bytes = MODEL_OFFSET + LOG_BYTES;
	unsigned moment = 0;

	model_destroy(&model);
	model.options.ring_bytes = 256 * 1024;
	ck_ok(device_open_recording(device_bytes, &model.options.place.device));
	model_reopen(&model, model.options.start);
	note_moment(model.options.start, 0, 0);
	work_for_three_laps(&seed);
	for (uint32_t cut = 0; cut <= moments[moment_count - 1].events; cut++) {
		while (moment + 1 < moment_count && moments[moment + 1].events <= cut)
			moment++;
		check_power_cut(cut, 0, RECORDING_WHOLE, &moments[moment]);
		check_power_cut(cut, UINT64_MAX, RECORDING_WHOLE, &moments[moment]);
		for (int i = 0; i < 3; i++)
			check_power_cut(cut, support_random(&seed), RECORDING_TEAR_512,
			    &moments[moment]);
	}
}
END_TEST

/* ---- damage ------------------------------------------------------------------------- */

START_TEST(journal_damage_below_known_durable_is_an_error)
{
	lsn_t end, first_end, start = model.options.start;
	struct model_position position;
	uint64_t count;

	append_and_sync(10);
	position = model_append_zeros(&model, 500);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	first_end = journal_end(model.journal);
	append_and_sync(1); /* its MARK says that the damaged record was durable */
	model_damage(&model, position.lsn + 100);
	ck_assert_int_eq(model_read_any(&model.options.place, start, 7, &count, &end), -EUCLEAN);
	ck_assert_uint_eq(end, position.lsn);
	ck_assert_uint_eq(count, 0);
	model_damage(&model, position.lsn + 100);
	ck_assert_uint_eq(model_read_any(&model.options.place, start, 7, &count, &end), 0);

	/* Nothing says that the last flush was ever durable. */
	model_damage(&model, first_end + 10);
	ck_ok(model_read_any(&model.options.place, start, 7, &count, &end));
	ck_assert_uint_eq(end, first_end);
	ck_assert_uint_eq(count, 11);
}
END_TEST

/* The MARK that proves it lies behind the log's wrap. */
START_TEST(journal_damage_is_found_across_the_wrap)
{
	struct model_position position;
	uint64_t count;
	lsn_t end, tail;

	while (journal_end(model.journal) < LOG_BYTES - 2 * BLOCK_BYTES)
		append_and_sync(1);
	tail = journal_cut(model.journal);
	journal_set_tail(model.journal, tail);
	position = model_append_zeros(&model, 100);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	while (journal_end(model.journal) < LOG_BYTES + 20 * BLOCK_BYTES)
		append_and_sync(1);
	model_damage(&model, position.lsn);
	ck_assert_int_eq(model_read_any(&model.options.place, tail, 7, &count, &end), -EUCLEAN);
	ck_assert_uint_eq(end, position.lsn);
}
END_TEST

TCase *damage_tests(void)
{
	TCase *tests = tcase_create("damage");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, journal_replay_stops_at_torn_flush);
	tcase_add_test(tests, journal_replay_takes_any_subset_of_a_flush);
	tcase_add_test(tests, journal_garbage_and_zeros_end_the_log);
	tcase_add_test(tests, journal_any_header_byte_may_lie);
	tcase_add_test(tests, journal_bytes_of_the_lap_before_never_verify);
	tcase_add_test(tests, journal_records_moved_or_of_another_volume_never_verify);
	tcase_add_test(tests, journal_power_cut_loses_nothing_synced);
	tcase_add_test(tests, journal_damage_below_known_durable_is_an_error);
	tcase_add_test(tests, journal_damage_is_found_across_the_wrap);
	return tests;
}

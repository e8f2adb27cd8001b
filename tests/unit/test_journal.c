/*
 * The journal in one thread: what was appended and synced is read back, whole and
 * in order; credit, levels, errors.  Torn and damaged logs: test_journal_damage.c,
 * shared rings: test_journal_ring.c, threads: test_journal_threads.c.
 *
 * Method: records with known content (journal_model.h) on a memory device.
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
#define MARK_BYTES (HEADER_BYTES + 8)

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

/* ---- round trips --------------------------------------------------------------- */

START_TEST(journal_empty_log_has_no_records)
{
	lsn_t end;

	ck_assert_uint_eq(model_read(&model, model.options.start, 0, &end), 0);
	ck_assert_uint_eq(end, model.options.start);
}
END_TEST

START_TEST(journal_synced_records_come_back_in_order)
{
	lsn_t end;

	append_and_sync(100);
	append_and_sync(1);
	append_and_sync(50);
	ck_assert_uint_eq(model_read(&model, model.options.start, 0, &end), 151);
	ck_assert_uint_eq(end, journal_end(model.journal));
}
END_TEST

START_TEST(journal_unsynced_records_are_not_on_disk)
{
	append_and_sync(10);
	model_append(&model);
	ck_assert_uint_eq(model_read(&model, model.options.start, 0, NULL), 10);
}
END_TEST

/* Checkpoints move the tail; every lap the log is read from it. */
START_TEST(journal_laps_leave_what_the_tail_protects)
{
	uint64_t seed = support_seed(11);
	uint64_t first = 0;
	lsn_t tail = model.options.start;

	for (int round = 0; round < 60; round++) {
		struct model_position position;
		lsn_t cut, end;

		while (journal_end(model.journal) - tail < LOG_BYTES * 3 / 4 &&
		       model_try_append(&model, &position) == 0)
			if (support_random_below(&seed, 8) == 0)
				ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
		ck_ok(journal_sync(model.journal, journal_end(model.journal), JOURNAL_SYNC));
		ck_assert_uint_eq(model_read(&model, tail, first, &end), model.next - first);
		ck_assert_uint_eq(end, journal_end(model.journal));

		cut = journal_cut(model.journal);
		ck_assert_uint_eq(cut, end);
		journal_set_tail(model.journal, cut);
		tail = cut;
		first = model.next;
		ck_assert_uint_eq(model_read(&model, tail, first, &end), 0);
		ck_assert_uint_eq(end, tail);
	}
	ck_assert_uint_gt(tail, 30 * LOG_BYTES);
}
END_TEST

START_TEST(journal_goes_on_after_reopen)
{
	lsn_t end;

	append_and_sync(20);
	end = journal_end(model.journal);
	model_close(&model, true);
	model_reopen(&model, end);
	append_and_sync(20);
	ck_assert_uint_eq(model_read(&model, 5 * BLOCK_BYTES, 0, NULL), 40);
}
END_TEST

START_TEST(journal_longest_record_passes)
{
	uint32_t max = journal_body_max(model.journal);
	struct model_position position;
	uint64_t count;
	lsn_t end;

	ck_assert_int_eq(journal_reserve(model.journal, max + 1), -E2BIG);
	ck_assert_int_eq(journal_reserve(model.journal, UINT32_MAX), -E2BIG);
	for (int i = 0; i < 3; i++) {
		model_append_zeros(&model, 17);
		position = model_append_zeros(&model, max);
	}
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	ck_ok(model_read_any(&model.options.place, model.options.start, 7, &count, &end));
	ck_assert_uint_eq(count, 6);
}
END_TEST

START_TEST(journal_refuses_nonsense_options)
{
	struct journal_options options = model.options;
	struct journal *journal;

	options.start = 100;
	ck_assert_int_eq(journal_open(&options, &journal), -EINVAL);
	options = model.options;
	options.ring_bytes = 300 * 1024;
	ck_assert_int_eq(journal_open(&options, &journal), -EINVAL);
	options = model.options;
	options.place.bytes = 1ull << 40;
	ck_assert_int_eq(journal_open(&options, &journal), -EINVAL);
	options = model.options;
	options.place.bytes = BLOCK_BYTES;
	ck_assert_int_eq(journal_open(&options, &journal), -EINVAL);
}
END_TEST

/* ---- cuts ------------------------------------------------------------------------ */

START_TEST(journal_idle_syncs_and_cuts_write_nothing)
{
	lsn_t end;
	struct device_counters before, after;

	ck_assert_uint_eq(journal_cut(model.journal), model.options.start);
	append_and_sync(3);
	end = journal_end(model.journal);
	device_counters(model.options.place.device, &before);
	ck_ok(journal_sync(model.journal, end, JOURNAL_SYNC));
	ck_ok(journal_sync(model.journal, end - 8, JOURNAL_SYNC));
	ck_assert_uint_eq(journal_cut(model.journal), end);
	ck_ok(journal_sync(model.journal, end, JOURNAL_SYNC));
	device_counters(model.options.place.device, &after);
	ck_assert_uint_eq(after.writes, before.writes);
	ck_assert_uint_eq(after.flushes, before.flushes);
	ck_assert_uint_eq(journal_end(model.journal), end);
}
END_TEST

/* Every distance to the block boundary, those too short for a PAD among them. */
START_TEST(journal_cut_fills_every_gap)
{
	uint64_t count, appended = 0;
	lsn_t from = model.options.start, end;

	for (uint32_t gap = 0; gap < 64; gap += 8) {
		struct model_position position = model_append_zeros(&model,
		    BLOCK_BYTES - MARK_BYTES - HEADER_BYTES - gap);
		lsn_t boundary = round_up(position.end, BLOCK_BYTES);

		appended++;
		ck_assert_uint_eq(position.end + gap, boundary);
		if (gap && gap < HEADER_BYTES)
			boundary += BLOCK_BYTES;
		ck_assert_uint_eq(journal_cut(model.journal), boundary);
	}
	ck_ok(journal_sync(model.journal, journal_end(model.journal), JOURNAL_SYNC));
	ck_ok(model_read_any(&model.options.place, from, 7, &count, &end));
	ck_assert_uint_eq(count, appended);
	ck_assert_uint_eq(end, journal_end(model.journal));
}
END_TEST

/* No block goes to the device twice: the bytes written are the bytes of the log. */
START_TEST(journal_writes_each_block_once)
{
	struct journal_counters counters;

	for (int i = 0; i < 40; i++)
		append_and_sync(1 + i % 3);
	journal_counters(model.journal, &counters);
	ck_assert_uint_eq(counters.write_bytes,
	    journal_end(model.journal) - model.options.start);
	ck_assert_uint_eq(counters.records, model.next);
	ck_assert_uint_eq(counters.syncs, 40);
	ck_assert_uint_eq(counters.used_bytes, counters.write_bytes);
	ck_assert_uint_eq(counters.capacity_bytes, LOG_BYTES);
}
END_TEST

/* ---- reading, formatting ------------------------------------------------------------ */

struct visit_log {
	unsigned visits, stop_at;
	int result;
	lsn_t stopped, known_durable;
};

static int note_visit(void *ctx, lsn_t lsn, lsn_t end, lsn_t known_durable,
    const void *body, uint32_t body_bytes)
{
	struct visit_log *visits = ctx;

	(void)end, (void)body, (void)body_bytes;
	visits->known_durable = known_durable;
	if (visits->visits++ != visits->stop_at)
		return 0;
	visits->stopped = lsn;
	return visits->result;
}

START_TEST(journal_visitor_may_stop_or_fail)
{
	struct visit_log visits = {.stop_at = 7, .result = JOURNAL_STOP};
	lsn_t end, durable, start = model.options.start;

	append_and_sync(10);
	durable = journal_durable(model.journal);
	append_and_sync(10);
	ck_ok(journal_read(&model.options.place, start, 7, note_visit, &visits, &end));
	ck_assert_uint_eq(visits.visits, 8);
	ck_assert_uint_eq(end, visits.stopped);
	ck_assert_uint_eq(visits.known_durable, durable);

	visits = (struct visit_log){.stop_at = 3, .result = -EDOM};
	ck_assert_int_eq(journal_read(&model.options.place, start, 7, note_visit, &visits, &end), -EDOM);
	ck_ok(journal_read(&model.options.place, start, 7, NULL, NULL, &end));
	ck_assert_uint_eq(end, journal_end(model.journal));
}
END_TEST

/* From chunk to chunk, the longest ones over two; and across the wrap. */
START_TEST(journal_reads_records_whole_that_do_not_fit_a_chunk)
{
	uint64_t count;
	lsn_t from, end;

	model_destroy(&model);
	model_open(&model, 48u << 20, 0);
	model_close(&model, true);
	model.options.ring_bytes = 32u << 20;
	model_reopen(&model, 0);
	for (unsigned lap = 0; lap < 4; lap++) {
		from = journal_cut(model.journal);
		ck_ok(journal_sync(model.journal, from, JOURNAL_SYNC));
		journal_set_tail(model.journal, from);
		for (unsigned i = 0; i < 2; i++) {
			for (unsigned j = 0; j < 300 + 7 * lap; j++)
				model_append(&model);
			model_append_zeros(&model, journal_body_max(model.journal));
		}
		ck_ok(journal_sync(model.journal, journal_end(model.journal), JOURNAL_SYNC));
		ck_ok(model_read_any(&model.options.place, from, 7, &count, &end));
		ck_assert_uint_eq(count, 602 + 14 * lap);
		ck_assert_uint_eq(end, journal_end(model.journal));
	}
}
END_TEST

START_TEST(journal_format_empties_the_log_only)
{
	uint8_t *log;
	uint8_t *next = aligned_alloc(DEVICE_ALIGN, BLOCK_BYTES);
	uint64_t after = MODEL_OFFSET + LOG_BYTES;
	struct device *device = model.options.place.device;

	memset(next, 0x77, BLOCK_BYTES);
	ck_ok(device_write(device, next, BLOCK_BYTES, after));
	ck_ok(device_write(device, next, BLOCK_BYTES, MODEL_OFFSET - BLOCK_BYTES));
	append_and_sync(100);
	ck_ok(journal_format(&model.options.place));
	log = model_copy_log(&model);
	ck_assert(log[0] == 0 && memcmp(log, log + 1, LOG_BYTES - 1) == 0);
	ck_ok(device_read(device, next, BLOCK_BYTES, after));
	ck_assert_uint_eq(next[0], 0x77);
	ck_ok(device_read(device, next, BLOCK_BYTES, MODEL_OFFSET - BLOCK_BYTES));
	ck_assert_uint_eq(next[BLOCK_BYTES - 1], 0x77);
	free(next);
	free(log);
}
END_TEST

/* ---- credit --------------------------------------------------------------------------- */

START_TEST(journal_credit_ends_before_the_unread_tail)
{
	struct model_position position;
	lsn_t end, start = model.options.start;
	uint64_t first;

	while (model_try_append(&model, &position) == 0)
		if (model.next % 3 == 0) /* many pads and marks */
			ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	ck_ok(journal_sync(model.journal, journal_end(model.journal), JOURNAL_SYNC));
	ck_assert_uint_le(journal_end(model.journal), start + LOG_BYTES);
	ck_assert_uint_gt(journal_end(model.journal), start + LOG_BYTES * 3 / 4);
	ck_assert_int_eq(journal_reserve(model.journal, MODEL_BODY_MAX), -EAGAIN);
	first = model.next;
	ck_assert_uint_eq(model_read(&model, start, 0, &end), first);

	journal_set_tail(model.journal, journal_cut(model.journal));
	journal_wait_room(model.journal, start);
	append_and_sync(20);
	ck_assert_uint_eq(model_read(&model, end, first, NULL), 20);
}
END_TEST

/*
 * Records that leave a gap of 16 bytes, each followed by a cut: MARK, record and the
 * longest PAD are two blocks, just what the credit for them counts.
 */
START_TEST(journal_credit_covers_the_worst_cuts)
{
	uint32_t body_bytes = BLOCK_BYTES - MARK_BYTES - HEADER_BYTES - 16;
	static uint8_t body[BLOCK_BYTES];
	struct iovec piece = {body, body_bytes};
	uint32_t credits = 0;
	lsn_t end;

	while (journal_reserve(model.journal, body_bytes) == 0)
		credits++;
	ck_assert_uint_eq(credits, LOG_BYTES / (2 * BLOCK_BYTES) - 1);
	/* What this append leaves over is needed for its cut. */
	journal_append(model.journal, JOURNAL_BATCH, &piece, 1, &end);
	ck_assert_int_eq(journal_reserve(model.journal, body_bytes), -EAGAIN);
	for (; credits > 1; credits--) {
		journal_cut(model.journal);
		journal_append(model.journal, JOURNAL_BATCH, &piece, 1, &end);
	}
	end = journal_cut(model.journal);
	ck_assert_uint_eq(end, model.options.start + LOG_BYTES - 2 * BLOCK_BYTES);
}
END_TEST

START_TEST(journal_credit_given_back_can_be_taken_again)
{
	uint32_t count = 0, again = 0;

	while (journal_reserve(model.journal, 5000) == 0)
		count++;
	ck_assert_uint_gt(count, LOG_BYTES / 20000);
	for (uint32_t i = 0; i < count; i++)
		journal_unreserve(model.journal, 5000);
	journal_wait_room(model.journal, journal_tail(model.journal)); /* returns: it came back */
	while (journal_reserve(model.journal, 5000) == 0)
		again++;
	ck_assert_uint_eq(again, count);
	for (uint32_t i = 0; i < count; i++)
		journal_unreserve(model.journal, 5000);
}
END_TEST

/* ---- levels and errors ------------------------------------------------------------------ */

START_TEST(journal_process_level_writes_without_flush_where_the_ring_is_private)
{
	struct device_counters before, after;
	struct model_position position = model_append(&model);

	device_counters(model.options.place.device, &before);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_LOSSY));
	ck_assert(!journal_is_shared(model.journal));
	ck_assert_uint_eq(model_read(&model, model.options.start, 0, NULL), 0);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_PROCESS));
	ck_assert_uint_eq(model_read(&model, model.options.start, 0, NULL), 1);
	device_counters(model.options.place.device, &after);
	ck_assert_uint_eq(after.flushes, before.flushes);
	ck_assert_uint_lt(journal_durable(model.journal), position.end);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	device_counters(model.options.place.device, &after);
	ck_assert_uint_eq(after.flushes, before.flushes + 1);
}
END_TEST

START_TEST(journal_tail_makes_what_it_covers_durable)
{
	struct device_counters before, after;
	struct model_position position = model_append(&model);

	device_counters(model.options.place.device, &before);
	journal_set_tail(model.journal, journal_cut(model.journal));
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	device_counters(model.options.place.device, &after);
	ck_assert_uint_eq(after.writes, before.writes);
	ck_assert_uint_eq(after.flushes, before.flushes);

	/* Nor is it written later. */
	position = model_append_zeros(&model, 10);
	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	device_counters(model.options.place.device, &after);
	ck_assert_uint_eq(after.write_bytes, before.write_bytes + BLOCK_BYTES);
}
END_TEST

static void break_device(const struct faulty_plan *plan)
{
	struct device *faulty;

	model_close(&model, true);
	ck_ok(device_open_faulty(model.options.place.device, &faulty));
	model.options.place.device = faulty;
	model_reopen(&model, model.options.start);
	append_and_sync(5);
	faulty_set_plan(faulty, plan);
}

/* Not sticky in the device: the journal itself must not try again. */
static void expect_dead_journal(int error)
{
	lsn_t durable = journal_durable(model.journal);
	struct model_position position = model_append(&model);

	ck_ok(journal_reserve(model.journal, 100));
	ck_assert_int_eq(journal_sync(model.journal, position.end, JOURNAL_SYNC), error);
	ck_assert_int_eq(journal_sync(model.journal, position.end, JOURNAL_SYNC), error);
	ck_assert_int_eq(journal_sync(model.journal, position.end, JOURNAL_PROCESS), error);
	ck_assert_int_eq(journal_error(model.journal), error);
	ck_assert_uint_eq(journal_durable(model.journal), durable);
	ck_assert_int_eq(journal_reserve(model.journal, 100), error);
	journal_wait_room(model.journal, journal_tail(model.journal));
	journal_unreserve(model.journal, 100);
}

START_TEST(journal_failed_write_is_final)
{
	break_device(&(struct faulty_plan){.fail_write_at = 1, .error = -EIO});
	expect_dead_journal(-EIO);
	ck_assert_uint_eq(model_read(&model, model.options.start, 0, NULL), 5);
}
END_TEST

START_TEST(journal_failed_flush_is_final)
{
	break_device(&(struct faulty_plan){.fail_flush_at = 1, .error = -ENOSPC});
	expect_dead_journal(-ENOSPC);
}
END_TEST

START_TEST(journal_failed_read_is_an_error)
{
	uint64_t count;
	lsn_t end;

	break_device(&(struct faulty_plan){.fail_read_at = 1, .error = -EIO});
	ck_assert_int_eq(model_read_any(&model.options.place, model.options.start, 7,
			     &count, &end), -EIO);
}
END_TEST

static Suite *journal_suite(void)
{
	Suite *suite = suite_create("journal");
	TCase *tests = tcase_create("log");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, journal_empty_log_has_no_records);
	tcase_add_test(tests, journal_synced_records_come_back_in_order);
	tcase_add_test(tests, journal_unsynced_records_are_not_on_disk);
	tcase_add_test(tests, journal_laps_leave_what_the_tail_protects);
	tcase_add_test(tests, journal_goes_on_after_reopen);
	tcase_add_test(tests, journal_longest_record_passes);
	tcase_add_test(tests, journal_refuses_nonsense_options);
	tcase_add_test(tests, journal_idle_syncs_and_cuts_write_nothing);
	tcase_add_test(tests, journal_cut_fills_every_gap);
	tcase_add_test(tests, journal_writes_each_block_once);
	tcase_add_test(tests, journal_visitor_may_stop_or_fail);
	tcase_add_test(tests, journal_reads_records_whole_that_do_not_fit_a_chunk);
	tcase_add_test(tests, journal_format_empties_the_log_only);
	tcase_add_test(tests, journal_credit_ends_before_the_unread_tail);
	tcase_add_test(tests, journal_credit_covers_the_worst_cuts);
	tcase_add_test(tests, journal_credit_given_back_can_be_taken_again);
	tcase_add_test(tests, journal_process_level_writes_without_flush_where_the_ring_is_private);
	tcase_add_test(tests, journal_tail_makes_what_it_covers_durable);
	tcase_add_test(tests, journal_failed_write_is_final);
	tcase_add_test(tests, journal_failed_flush_is_final);
	tcase_add_test(tests, journal_failed_read_is_an_error);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, damage_tests());
	suite_add_tcase(suite, ring_tests());
	suite_add_tcase(suite, thread_tests());
	return suite;
}

int main(void)
{
	return support_run(journal_suite());
}

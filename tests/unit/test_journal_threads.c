/*
 * Many threads at one journal: one flush serves all that wait, records of a thread
 * stay in order, what a sync promised is on disk, credit never deadlocks.
 *
 * Method: the linker puts __wrap_device_flush between journal and device, so that
 * a test can hold a flush back until as many others wait as it wants; no outcome
 * depends on time.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/lock.h"
#include "journal/journal_internal.h"
#include "tests/support/support.h"
#include "tests/unit/journal_model.h"

#define LOG_BYTES (1024u * 1024)
#define THREADS 6u
#define RECORDS 600u

static struct model model;

/* ---- a flush held back -------------------------------------------------------- */

static struct journal *_Atomic held_journal; /* hold flushes of it until `held_waits` */
static _Atomic uint64_t held_waits;
static _Atomic unsigned held_flushes;

int __real_device_flush(struct device *device);
int __wrap_device_flush(struct device *device);

int __wrap_device_flush(struct device *device)
{
	struct journal_counters counters = {.waits = 0};

	held_flushes++;
	while (held_journal && counters.waits < held_waits) {
		journal_counters(held_journal, &counters);
		usleep(500);
	}
	return __real_device_flush(device);
}

static void setup(void)
{
	model_open(&model, LOG_BYTES, 0);
}

static void teardown(void)
{
	model_destroy(&model);
}

/* Appends pass it shared, checkpoints exclusively; NULL: no checkpoints. */
static struct gate *gate;

/* ---- bytes being copied -------------------------------------------------------------- */

struct waiting {
	struct journal *journal;
	lsn_t lsn;
	enum journal_level level;
	_Atomic bool is_over;
};

static void *wait_for_level(void *ctx)
{
	struct waiting *waiting = ctx;

	ck_ok(journal_sync(waiting->journal, waiting->lsn, waiting->level));
	atomic_store(&waiting->is_over, true);
	return NULL;
}

/* Somebody is in the middle of copying a record when another one, behind it, is whole. */
static void expect_wait(struct model *with, enum journal_level level)
{
	struct journal_appender *stuck = &with->journal->appenders[APPENDERS - 1];
	struct waiting waiting = {.journal = with->journal, .level = level};
	struct journal_counters counters;
	pthread_t thread;

	waiting.lsn = model_append(with).end;
	atomic_store(&with->journal->appenders_used, APPENDERS);
	atomic_store(&stuck->from, model_append(with).lsn);
	ck_assert(journal_is_published(with->journal, waiting.lsn));
	waiting.lsn = model_append(with).end;
	ck_assert(!journal_is_published(with->journal, waiting.lsn));
	ck_ok(pthread_create(&thread, NULL, wait_for_level, &waiting));
	usleep(20000);
	ck_assert(!atomic_load(&waiting.is_over));
	journal_counters(with->journal, &counters);
	ck_assert_uint_eq(counters.writes, 0);
	/* It finishes, and the next one to do so wakes those who wait. */
	atomic_store(&stuck->from, APPENDER_FREE);
	model_append(with);
	ck_ok(pthread_join(thread, NULL));
	ck_assert(journal_is_published(with->journal, waiting.lsn));
}

START_TEST(journal_sync_waits_for_bytes_that_others_copy)
{
	expect_wait(&model, JOURNAL_SYNC);
	ck_assert_uint_ge(journal_durable(model.journal), model.journal->tail);
}
END_TEST

START_TEST(journal_process_level_waits_for_bytes_that_others_copy)
{
	struct model shared;
	struct device *device;

	ck_ok(device_open_memory(16u << 20, &device));
	model_open_shared(&shared, device, LOG_BYTES, 0);
	ck_assert(journal_is_shared(shared.journal));
	expect_wait(&shared, JOURNAL_PROCESS);
	model_close(&shared, true);
	device_close(device);
}
END_TEST

/* ---- group commit ---------------------------------------------------------------- */

struct body {
	uint32_t thread, number;
	uint8_t more[1000];
};

static struct model_position append_body(uint32_t thread, uint32_t number)
{
	struct body body = {.thread = thread, .number = number};
	struct iovec piece = {&body, 8 + (thread * 131 + number * 17) % sizeof(body.more)};
	struct model_position position;
	unsigned ticket = 0;
	int err;

	for (;;) {
		lsn_t tail = journal_tail(model.journal);

		err = journal_reserve(model.journal, (uint32_t)piece.iov_len);
		if (err != -EAGAIN)
			break;
		journal_wait_room(model.journal, tail);
	}
	ck_ok(err);
	if (gate)
		ticket = gate_enter_shared(gate);
	position.lsn = journal_append(model.journal, JOURNAL_BATCH, &piece, 1, &position.end);
	if (gate)
		gate_leave_shared(gate, ticket);
	return position;
}

static void *append_and_sync(void *arg)
{
	struct model_position position = append_body((uint32_t)(uintptr_t)arg, 0);

	ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
	ck_assert_uint_ge(journal_durable(model.journal), position.end);
	return NULL;
}

/* All but the first come while its flush is under way: one more serves them all. */
START_TEST(journal_one_flush_serves_all_that_wait)
{
	pthread_t threads[THREADS];
	struct device_counters before, after;
	struct journal_counters counters;

	device_counters(model.options.place.device, &before);
	held_waits = THREADS - 1;
	held_journal = model.journal;
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, append_and_sync, (void *)i));
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	held_journal = NULL;
	device_counters(model.options.place.device, &after);
	journal_counters(model.journal, &counters);
	ck_assert_uint_le(after.flushes - before.flushes, 2);
	ck_assert_uint_eq(counters.syncs, after.flushes - before.flushes);
	ck_assert_uint_eq(counters.records, THREADS);
}
END_TEST

/*
 * The flush is stuck; appends go on, through a full ring too, and write halves of
 * records.  None of that counts as durable when the flush ends.
 */
START_TEST(journal_appends_pass_a_flush_under_way)
{
	struct model_position position;
	pthread_t thread;
	uint32_t number = 1;

	model_close(&model, true);
	model.options.ring_bytes = 256 * 1024;
	model_reopen(&model, 0);
	held_waits = UINT64_MAX;
	held_journal = model.journal;
	ck_ok(pthread_create(&thread, NULL, append_and_sync, (void *)0));
	while (held_flushes == 0)
		usleep(500);
	do {
		position = append_body(0, number++);
	} while (position.end < 600 * 1024);
	held_waits = 0;
	ck_ok(pthread_join(thread, NULL));
	held_journal = NULL;
	ck_assert_uint_eq(journal_durable(model.journal), BLOCK_BYTES);
}
END_TEST

/* ---- everything at once ------------------------------------------------------------ */

static void *append_many(void *arg)
{
	uint32_t thread = (uint32_t)(uintptr_t)arg;

	for (uint32_t i = 0; i < RECORDS; i++) {
		struct model_position position = append_body(thread, i);

		if (i % (5 + thread) == 0) {
			ck_ok(journal_sync(model.journal, position.end, JOURNAL_SYNC));
			ck_assert_uint_ge(journal_durable(model.journal), position.end);
		}
		if (i % 11 == 0)
			ck_ok(journal_sync(model.journal, position.end, JOURNAL_PROCESS));
	}
	return NULL;
}

/* How far the records read so far went, of each thread. */
struct progress {
	uint32_t next[THREADS];
	lsn_t last;
};

static int follow(void *ctx, lsn_t lsn, lsn_t end, lsn_t known_durable,
    const void *bytes, uint32_t body_bytes)
{
	struct progress *progress = ctx;
	struct body body;

	(void)known_durable;
	ck_assert_uint_ge(body_bytes, 8);
	memcpy(&body, bytes, 8);
	ck_assert_uint_lt(body.thread, THREADS);
	ck_assert_uint_eq(body.number, progress->next[body.thread]);
	ck_assert_uint_ge(lsn, progress->last);
	progress->next[body.thread]++;
	progress->last = end;
	return 0;
}

/* Reads what the log gained since the last time, then lets it be overwritten. */
static void take_checkpoint(struct progress *progress)
{
	lsn_t end, cut;

	gate_enter_exclusive(gate);
	cut = journal_cut(model.journal);
	ck_ok(journal_sync(model.journal, cut, JOURNAL_SYNC));
	ck_ok(journal_read(&model.options.place, journal_tail(model.journal), 0, follow,
	    progress, &end));
	ck_assert_uint_eq(end, cut);
	journal_set_tail(model.journal, cut);
	gate_leave_exclusive(gate);
}

static _Atomic bool is_over;

static void *take_checkpoints(void *arg)
{
	while (!is_over) {
		take_checkpoint(arg);
		usleep(1000);
	}
	return NULL;
}

START_TEST(journal_threads_and_checkpoints_live_together)
{
	pthread_t threads[THREADS], checkpointer;
	struct progress progress = {.last = 0};

	gate = gate_create(RANK_GATE);
	ck_ok(journal_start_writer(model.journal));
	ck_ok(pthread_create(&checkpointer, NULL, take_checkpoints, &progress));
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, append_many, (void *)i));
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	is_over = true;
	ck_ok(pthread_join(checkpointer, NULL));
	take_checkpoint(&progress);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_uint_eq(progress.next[i], RECORDS);
	ck_assert_uint_gt(journal_end(model.journal), LOG_BYTES);
	gate_destroy(gate);
}
END_TEST

START_TEST(journal_keeps_the_order_of_each_thread)
{
	pthread_t threads[THREADS];
	struct progress progress = {.last = 0};
	lsn_t end;

	model_destroy(&model);
	model_open(&model, 16 * LOG_BYTES, 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, append_many, (void *)i));
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	ck_ok(journal_sync(model.journal, journal_end(model.journal), JOURNAL_SYNC));
	ck_ok(journal_read(&model.options.place, 0, 0, follow, &progress, &end));
	ck_assert_uint_eq(end, journal_end(model.journal));
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_uint_eq(progress.next[i], RECORDS);
}
END_TEST

/* Waiters learn of an error that another's flush met. */
static void *append_and_fail(void *arg)
{
	struct model_position position = append_body((uint32_t)(uintptr_t)arg, 0);

	ck_assert_int_eq(journal_sync(model.journal, position.end, JOURNAL_SYNC), -EIO);
	return NULL;
}

START_TEST(journal_error_reaches_all_that_wait)
{
	struct faulty_plan plan = {.fail_flush_at = 1, .error = -EIO};
	pthread_t threads[THREADS];
	struct device *faulty;

	model_close(&model, true);
	ck_ok(device_open_faulty(model.options.place.device, &faulty));
	model.options.place.device = faulty;
	model_reopen(&model, 0);
	faulty_set_plan(faulty, &plan);
	held_waits = THREADS - 1;
	held_journal = model.journal;
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, append_and_fail, (void *)i));
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	held_journal = NULL;
	ck_assert_int_eq(journal_error(model.journal), -EIO);
}
END_TEST

/* Credit in hand must turn into records even when nothing can be written. */
START_TEST(journal_full_ring_of_a_dead_journal_does_not_block)
{
	struct faulty_plan plan = {.fail_write_at = 1, .is_sticky = true, .error = -EIO};
	static uint8_t body[1000];
	struct iovec piece = {body, sizeof(body)};
	struct device *faulty;
	unsigned reserved = 0;
	lsn_t end;

	model_destroy(&model);
	model_open(&model, 4 * LOG_BYTES, 0);
	model_close(&model, true);
	ck_ok(device_open_faulty(model.options.place.device, &faulty));
	model.options.place.device = faulty;
	model.options.ring_bytes = 256 * 1024;
	model_reopen(&model, 0);
	faulty_set_plan(faulty, &plan);
	while (reserved < 600 && journal_reserve(model.journal, sizeof(body)) == 0)
		reserved++;
	ck_assert_uint_eq(reserved, 600);
	for (unsigned i = 0; i < reserved; i++)
		journal_append(model.journal, JOURNAL_BATCH, &piece, 1, &end);
	ck_assert_int_eq(journal_sync(model.journal, end, JOURNAL_SYNC), -EIO);
	journal_cut(model.journal);
}
END_TEST

/* ---- credit in stock, and the writer --------------------------------------------------- */

static void *append_one(void *arg)
{
	(void)arg;
	append_body(0, 0);
	return NULL;
}

static uint64_t credit_in_stock(void)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < APPENDERS; i++)
		bytes += atomic_load(&model.journal->appenders[i].credit);
	return bytes;
}

/* Other threads have some left when this one wants all there is. */
START_TEST(journal_refuses_nothing_while_others_have_credit_in_stock)
{
	uint32_t body_bytes = 100;
	pthread_t thread;

	append_body(0, 0);
	ck_ok(pthread_create(&thread, NULL, append_one, NULL));
	ck_ok(pthread_join(thread, NULL));
	ck_assert_uint_gt(credit_in_stock(), 2 * journal_credit_for(body_bytes));
	while (journal_reserve(model.journal, body_bytes) == 0)
		;
	ck_assert_uint_eq(credit_in_stock(), 0);
	ck_assert_uint_lt(atomic_load(&model.journal->credit_left), journal_credit_for(body_bytes));
	/* What comes back now is for those who were refused, whoever they are. */
	journal_unreserve(model.journal, body_bytes);
	ck_assert_uint_eq(credit_in_stock(), 0);
	ck_ok(journal_reserve(model.journal, body_bytes));
}
END_TEST

/* Nobody syncs, and the ring is never full. */
START_TEST(journal_writer_writes_while_there_is_room)
{
	struct journal_counters counters = {.writes = 0};
	uint32_t number = 0;
	lsn_t end;

	model_close(&model, true);
	model.options.ring_bytes = 256 * 1024;
	model_reopen(&model, 0);
	ck_ok(journal_start_writer(model.journal));
	do {
		end = append_body(0, number++).end;
	} while (end < 100 * 1024);
	usleep(20000);
	journal_counters(model.journal, &counters);
	ck_assert_uint_eq(counters.writes, 0);
	do {
		end = append_body(0, number++).end;
	} while (end < 132 * 1024);
	while (counters.write_bytes < 128 * 1024) {
		usleep(500);
		journal_counters(model.journal, &counters);
	}
	ck_assert_uint_eq(counters.syncs, 0);
}
END_TEST

TCase *thread_tests(void)
{
	TCase *tests = tcase_create("threads");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, journal_sync_waits_for_bytes_that_others_copy);
	tcase_add_test(tests, journal_process_level_waits_for_bytes_that_others_copy);
	tcase_add_test(tests, journal_one_flush_serves_all_that_wait);
	tcase_add_test(tests, journal_appends_pass_a_flush_under_way);
	tcase_add_test(tests, journal_threads_and_checkpoints_live_together);
	tcase_add_test(tests, journal_keeps_the_order_of_each_thread);
	tcase_add_test(tests, journal_error_reaches_all_that_wait);
	tcase_add_test(tests, journal_full_ring_of_a_dead_journal_does_not_block);
	tcase_add_test(tests, journal_refuses_nothing_while_others_have_credit_in_stock);
	tcase_add_test(tests, journal_writer_writes_while_there_is_room);
	return tests;
}

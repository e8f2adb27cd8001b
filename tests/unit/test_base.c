/*
 * core/base: locks, waiting, byte order, checksums, small arithmetic.
 *
 * What depends on time is tested from one side only: a wait must not end too
 * early, and must end at all (the test's time-out says if it does not).
 */
#include "config.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/cleanup.h"
#include "base/counter.h"
#include "base/futex.h"
#include "base/lock.h"
#include "base/log.h"
#include "tests/support/support.h"

#define MS	1000000ull
#define THREADS 4u
#define ROUNDS	2000u

/* ---- gate -------------------------------------------------------------- */

struct gate_arena {
	struct gate *gate;
	uint64_t plain; /* guarded by gate, exclusive */
	_Atomic uint32_t inside, most_inside, arrived;
	_Atomic bool is_over, is_closed;
};

static void run_threads(unsigned count, void *(*fn)(void *), void *ctx)
{
	pthread_t threads[8];

	for (unsigned i = 0; i < count; i++)
		ck_ok(pthread_create(&threads[i], NULL, fn, ctx));
	for (unsigned i = 0; i < count; i++)
		ck_ok(pthread_join(threads[i], NULL));
}

static void nap_us(unsigned us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000L}, NULL);
}

static void *pass_and_close(void *ctx)
{
	struct gate_arena *a = ctx;
	unsigned ticket;

	for (unsigned round = 0; round < ROUNDS; round++) {
		if (round % 4 == 0) {
			gate_enter_exclusive(a->gate);
			ck_assert_uint_eq(atomic_load(&a->inside), 0);
			a->plain++;
			gate_leave_exclusive(a->gate);
			continue;
		}
		ticket = gate_enter_shared(a->gate);
		atomic_fetch_add(&a->inside, 1);
		ck_assert_uint_le(a->plain, THREADS * ROUNDS);
		atomic_fetch_sub(&a->inside, 1);
		gate_leave_shared(a->gate, ticket);
	}
	return NULL;
}

START_TEST(closed_gate_has_nobody_inside)
{
	static struct gate_arena a;

	a.gate = gate_create(RANK_GATE);
	run_threads(THREADS, pass_and_close, &a);
	ck_assert_uint_eq(a.plain, THREADS * ROUNDS / 4);
	gate_destroy(a.gate);
	gate_destroy(NULL);
}
END_TEST

/* Leaves only when all are inside. */
static void *pass_together(void *ctx)
{
	struct gate_arena *a = ctx;
	unsigned ticket = gate_enter_shared(a->gate);

	atomic_fetch_add(&a->inside, 1);
	while (atomic_load(&a->inside) < THREADS)
		nap_us(100);
	gate_leave_shared(a->gate, ticket);
	return NULL;
}

START_TEST(many_pass_an_open_gate_together)
{
	static struct gate_arena a;

	a.gate = gate_create(RANK_GATE);
	run_threads(THREADS, pass_together, &a);
	gate_destroy(a.gate);
}
END_TEST

static void *pass_on_and_on(void *ctx)
{
	struct gate_arena *a = ctx;

	while (!atomic_load(&a->is_over)) {
		unsigned ticket = gate_enter_shared(a->gate);

		nap_us(200);
		gate_leave_shared(a->gate, ticket);
	}
	return NULL;
}

START_TEST(gate_closes_under_a_stream_of_passers)
{
	static struct gate_arena a;
	pthread_t threads[THREADS];

	a.gate = gate_create(RANK_GATE);
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, pass_on_and_on, &a));
	for (unsigned i = 0; i < 50; i++) {
		gate_enter_exclusive(a.gate);
		gate_leave_exclusive(a.gate);
	}
	atomic_store(&a.is_over, true);
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	gate_destroy(a.gate);
}
END_TEST

/* ---- mutexes and ranks ------------------------------------------------- */

struct lock_arena {
	struct mutex mutex;
	struct condition condition;
	uint64_t plain; /* guarded by mutex */
};

static void *add_under_mutex(void *ctx)
{
	struct lock_arena *a = ctx;

	for (unsigned round = 0; round < ROUNDS; round++) {
		mutex_lock(&a->mutex);
		mutex_assert_held(&a->mutex);
		a->plain++;
		mutex_unlock(&a->mutex);
	}
	return NULL;
}

static void *fail_to_try(void *ctx)
{
	struct lock_arena *a = ctx;

	ck_assert(!mutex_try_lock(&a->mutex));
	return NULL;
}

START_TEST(mutex_excludes)
{
	struct lock_arena a = {.plain = 0};

	mutex_init(&a.mutex, RANK_LEAF);
	run_threads(THREADS, add_under_mutex, &a);
	ck_assert_uint_eq(a.plain, THREADS * ROUNDS);
	ck_assert(mutex_try_lock(&a.mutex));
	run_threads(1, fail_to_try, &a);
	mutex_unlock(&a.mutex);
	mutex_fini(&a.mutex);
}
END_TEST

START_TEST(locks_nest_downwards_and_inodes_in_themselves)
{
	struct mutex inode[2], leaf;
	struct gate *gate = gate_create(RANK_GATE);
	unsigned ticket;

	mutex_init(&inode[0], RANK_INODE);
	mutex_init(&inode[1], RANK_INODE);
	mutex_init(&leaf, RANK_LEAF);
	for (unsigned i = 0; i < 2; i++) {
		mutex_lock(&inode[0]);
		mutex_lock(&inode[1]);
		ticket = gate_enter_shared(gate);
		mutex_lock(&leaf);
		/* Released in any order. */
		mutex_unlock(&inode[0]);
		mutex_unlock(&leaf);
		gate_leave_shared(gate, ticket);
		mutex_unlock(&inode[1]);
	}
	mutex_fini(&leaf);
	mutex_fini(&inode[1]);
	mutex_fini(&inode[0]);
	gate_destroy(gate);
}
END_TEST

#ifdef DEBUG_CHECKS
START_TEST(lock_of_an_outer_rank_aborts)
{
	struct mutex inner, outer;

	mutex_init(&inner, RANK_POOL);
	mutex_init(&outer, RANK_JOURNAL);
	mutex_lock(&inner);
	mutex_lock(&outer);
}
END_TEST

START_TEST(second_lock_of_a_rank_aborts)
{
	struct mutex a, b;

	mutex_init(&a, RANK_POOL);
	mutex_init(&b, RANK_POOL);
	mutex_lock(&a);
	mutex_lock(&b);
}
END_TEST

START_TEST(nested_shared_gate_aborts)
{
	struct gate *gate = gate_create(RANK_GATE);

	gate_enter_shared(gate);
	gate_enter_shared(gate);
}
END_TEST

START_TEST(lock_that_is_not_held_is_noticed)
{
	struct mutex mutex;

	mutex_init(&mutex, RANK_POOL);
	mutex_assert_held(&mutex);
}
END_TEST
#endif

/* ---- waiting ----------------------------------------------------------- */

START_TEST(condition_waits_until_its_deadline)
{
	struct lock_arena a = {.plain = 0};
	uint64_t deadline = monotonic_ns() + 20 * MS;

	mutex_init(&a.mutex, RANK_LEAF);
	condition_init(&a.condition);
	mutex_lock(&a.mutex);
	while (condition_wait_until(&a.condition, &a.mutex, deadline))
		;
	ck_assert_uint_ge(monotonic_ns(), deadline);
	/* A deadline that has passed does not wait. */
	ck_assert(!condition_wait_until(&a.condition, &a.mutex, 1));
	mutex_unlock(&a.mutex);
	condition_fini(&a.condition);
	mutex_fini(&a.mutex);
}
END_TEST

static void *wait_for_signal(void *ctx)
{
	struct lock_arena *a = ctx;

	mutex_lock(&a->mutex);
	while (a->plain == 0)
		condition_wait(&a->condition, &a->mutex);
	mutex_unlock(&a->mutex);
	return NULL;
}

static void *signal_all(void *ctx)
{
	struct lock_arena *a = ctx;

	mutex_lock(&a->mutex);
	a->plain = 1;
	condition_wake_all(&a->condition);
	mutex_unlock(&a->mutex);
	return NULL;
}

START_TEST(condition_wakes_all_waiters)
{
	struct lock_arena a = {.plain = 0};
	pthread_t threads[THREADS];

	mutex_init(&a.mutex, RANK_LEAF);
	condition_init(&a.condition);
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, wait_for_signal, &a));
	run_threads(1, signal_all, &a);
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	condition_fini(&a.condition);
	mutex_fini(&a.mutex);
}
END_TEST

static _Atomic uint32_t futex_word;

static void *wait_on_word(void *ctx)
{
	(void)ctx;
	while (atomic_load(&futex_word) == 0)
		futex_wait(&futex_word, 0);
	return NULL;
}

START_TEST(futex_wakes_who_waits_and_not_who_is_late)
{
	pthread_t threads[THREADS];
	uint64_t start;

	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, wait_on_word, NULL));
	atomic_store(&futex_word, 1);
	futex_wake(&futex_word, INT32_MAX);
	for (unsigned i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	/* The word is another already: returns at once, or hangs the test. */
	futex_wait(&futex_word, 0);
	futex_wait_for(&futex_word, 0, 1000000 * MS);
	start = monotonic_ns();
	futex_wait_for(&futex_word, 1, 10 * MS);
	ck_assert_uint_ge(monotonic_ns() - start, 10 * MS);
}
END_TEST

/* ---- bytes, checksums, clean-up, log ----------------------------------- */

START_TEST(disk_integers_are_little_endian_and_key_integers_big)
{
	static const unsigned char little[] = {8, 7, 6, 5, 4, 3, 2, 1};
	static const unsigned char big[] = {1, 2, 3, 4, 5, 6, 7, 8};
	le64 v64 = to_le64(0x0102030405060708);
	le32 v32 = to_le32(0x05060708);
	le16 v16 = to_le16(0x0708);
	unsigned char key[9];

	ck_assert_mem_eq(&v64, little, 8);
	ck_assert_mem_eq(&v32, little, 4);
	ck_assert_mem_eq(&v16, little, 2);
	ck_assert_uint_eq(from_le64(v64), 0x0102030405060708);
	ck_assert_uint_eq(from_le32(v32), 0x05060708);
	ck_assert_uint_eq(from_le16(v16), 0x0708);
	/* At any address. */
	be64_store(key + 1, 0x0102030405060708);
	ck_assert_mem_eq(key + 1, big, 8);
	ck_assert_uint_eq(be64_load(key + 1), 0x0102030405060708);
}
END_TEST

START_TEST(big_endian_keys_sort_as_numbers)
{
	uint64_t state = support_seed(0xba5e);

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t a = support_random(&state) >> (i % 64);
		uint64_t b = support_random(&state) >> (i % 61);
		unsigned char key_a[8], key_b[8];

		be64_store(key_a, a);
		be64_store(key_b, b);
		ck_assert_int_eq(memcmp(key_a, key_b, 8) < 0, a < b);
	}
}
END_TEST

START_TEST(rounding_goes_to_the_unit)
{
	ck_assert_uint_eq(round_up(0, 4096), 0);
	ck_assert_uint_eq(round_up(1, 4096), 4096);
	ck_assert_uint_eq(round_up(4096, 4096), 4096);
	ck_assert_uint_eq(round_down(4095, 4096), 0);
	ck_assert_uint_eq(round_down(8191, 4096), 4096);
	ck_assert(is_aligned(8192, 4096) && !is_aligned(8193, 4096));
	ck_assert_uint_eq(div_up(0, 3), 0);
	ck_assert_uint_eq(div_up(7, 3), 3);
	ck_assert_uint_eq(min_of(3, 5) + max_of(3, 5), 8);
}
END_TEST

START_TEST(checksum_depends_on_every_bit_and_on_the_seed)
{
	unsigned char data[64];
	uint64_t whole;

	memset(data, 0x5a, sizeof(data));
	whole = checksum64(data, sizeof(data), 1);
	ck_assert_uint_eq(checksum64(data, sizeof(data), 1), whole);
	ck_assert_uint_ne(checksum64(data, sizeof(data), 2), whole);
	ck_assert_uint_ne(checksum64(data, sizeof(data) - 1, 1), whole);
	ck_assert_uint_eq(checksum32(data, sizeof(data), 1), (uint32_t)whole);
	for (unsigned bit = 0; bit < sizeof(data) * 8; bit++) {
		data[bit / 8] ^= 1u << bit % 8;
		ck_assert_uint_ne(checksum64(data, sizeof(data), 1), whole);
		ck_assert_uint_ne(checksum32(data, sizeof(data), 1),
		    (uint32_t)whole);
		data[bit / 8] ^= 1u << bit % 8;
	}
}
END_TEST

START_TEST(checksum_on_disk_is_xxh3)
{
	/* XXH3_64bits of no bytes with seed 0, as its specification gives it:
	 * the format is this function, not whatever a library computes. */
	ck_assert_uint_eq(checksum64("", 0, 0), 0x2d06800538d394c2ull);
}
END_TEST

START_TEST(stolen_things_are_not_cleaned_up)
{
	char *kept = NULL;
	int fds[2];

	ck_ok(pipe(fds));
	{
		cleanup_free char *stolen = malloc(1);
		cleanup_fd int closed = fds[0];
		cleanup_fd int left = fds[1];

		kept = steal_pointer(stolen);
		ck_assert_ptr_null(stolen);
		ck_assert_int_eq(steal_fd(&left), fds[1]);
		ck_assert_int_eq(closed, fds[0]);
	}
	ck_assert_ptr_nonnull(kept);
	free(kept);
	ck_ok(close(fds[1]));
	ck_assert_int_eq(close(fds[0]), -1);
}
END_TEST

static void keep_line(void *ctx, enum log_level level, const char *line)
{
	snprintf(ctx, 2048, "%d %s", (int)level, line);
}

START_TEST(log_lines_are_bounded_and_dropped_without_a_sink)
{
	char kept[2048] = "", big[2000];

	log_error("nobody listens");
	log_set_sink(keep_line, kept);
	log_warning("frame %d", 7);
	ck_assert_str_eq(kept, "1 frame 7");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	log_info("%s", big);
	ck_assert_uint_lt(strlen(kept), 1100);
	log_set_sink(NULL, NULL);
	log_error("nobody listens");
	ck_assert_int_eq(kept[0], '2');
}
END_TEST

static void add_lock_tests(Suite *suite)
{
	TCase *tc = tcase_create("locks");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, closed_gate_has_nobody_inside);
	tcase_add_test(tc, many_pass_an_open_gate_together);
	tcase_add_test(tc, gate_closes_under_a_stream_of_passers);
	tcase_add_test(tc, mutex_excludes);
	tcase_add_test(tc, locks_nest_downwards_and_inodes_in_themselves);
	tcase_add_test(tc, condition_waits_until_its_deadline);
	tcase_add_test(tc, condition_wakes_all_waiters);
	tcase_add_test(tc, futex_wakes_who_waits_and_not_who_is_late);
#ifdef DEBUG_CHECKS
	tcase_add_test_raise_signal(tc, lock_of_an_outer_rank_aborts, SIGABRT);
	tcase_add_test_raise_signal(tc, second_lock_of_a_rank_aborts, SIGABRT);
	tcase_add_test_raise_signal(tc, nested_shared_gate_aborts, SIGABRT);
	tcase_add_test_raise_signal(tc, lock_that_is_not_held_is_noticed,
	    SIGABRT);
#endif
	suite_add_tcase(suite, tc);
}

/* ---- counting ----------------------------------------------------------- */

#define COUNTING_THREADS (THREAD_NUMBERS + 10)

struct count {
	_Atomic uint64_t lines[THREAD_NUMBERS];
	_Atomic uint32_t owners[THREAD_NUMBERS];
	pthread_barrier_t all_have_numbers;
};

static void *count_alone(void *ctx)
{
	struct count *count = ctx;
	unsigned number = thread_number();

	atomic_fetch_add(&count->owners[number], 1);
	pthread_barrier_wait(&count->all_have_numbers);
	for (unsigned i = 0; i < ROUNDS; i++)
		counter_add(number, &count->lines[thread_number()], 1);
	pthread_barrier_wait(&count->all_have_numbers);
	return NULL;
}

/* More threads than there are numbers, twice: the second time with given-back ones. */
START_TEST(counters_lose_nothing_and_numbers_come_back)
{
	struct count count = {0};
	pthread_t threads[COUNTING_THREADS];
	uint64_t sum = 0;

	pthread_barrier_init(&count.all_have_numbers, NULL, COUNTING_THREADS);
	for (unsigned round = 1; round <= 2; round++) {
		for (unsigned i = 0; i < COUNTING_THREADS; i++)
			ck_ok(pthread_create(&threads[i], NULL, count_alone, &count));
		for (unsigned i = 0; i < COUNTING_THREADS; i++)
			ck_ok(pthread_join(threads[i], NULL));
		for (unsigned i = 0; i < THREAD_NUMBER_SHARED; i++)
			ck_assert_uint_eq(atomic_load(&count.owners[i]), round);
	}
	for (unsigned i = 0; i < THREAD_NUMBERS; i++)
		sum += atomic_load(&count.lines[i]);
	ck_assert_uint_eq(sum, 2ull * COUNTING_THREADS * ROUNDS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("base");
	TCase *tc = tcase_create("bytes");

	add_lock_tests(suite);
	tcase_add_test(tc, disk_integers_are_little_endian_and_key_integers_big);
	tcase_add_test(tc, big_endian_keys_sort_as_numbers);
	tcase_add_test(tc, rounding_goes_to_the_unit);
	tcase_add_test(tc, checksum_depends_on_every_bit_and_on_the_seed);
	tcase_add_test(tc, checksum_on_disk_is_xxh3);
	tcase_add_test(tc, stolen_things_are_not_cleaned_up);
	tcase_add_test(tc, counters_lose_nothing_and_numbers_come_back);
	tcase_add_test(tc, log_lines_are_bounded_and_dropped_without_a_sink);
	suite_add_tcase(suite, tc);
	return support_run(suite);
}

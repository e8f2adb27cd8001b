/*
 * Goal: io_uring carries many requests of many threads at once, from registered
 * memory or not, and where the kernel refuses a part of it the next way is taken,
 * said once, and told by device_describe().
 * Method: a real file; blocks that name their place and generation, so that a
 * request gone astray shows; refusals by a seccomp filter and by the limit of
 * locked memory.
 */
#include "config.h"

#include "tests/unit/test_device.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/log.h"
#include "tests/support/support.h"

#define SLOT (64u * 1024)
#define THREADS 6
#define BATCH 48u
#define ROUNDS 40

static _Atomic unsigned warning_count;

static void count_line(void *ctx, enum log_level level, const char *line)
{
	if (level <= LOG_LEVEL_WARNING)
		warning_count++;
}

static void *test_slab(uint64_t bytes)
{
	void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert_ptr_ne(base, MAP_FAILED);
	return base;
}

static struct device_request request_of(enum device_op op, void *data, uint32_t bytes,
    uint64_t offset)
{
	return (struct device_request){
	    .op = op,
	    .slot = DEVICE_NO_SLOT,
	    .data = data,
	    .bytes = bytes,
	    .offset = offset,
	};
}

static int run(struct device *device, struct device_request *requests, uint32_t count)
{
	struct device_batch batch;

	device_batch_init(&batch);
	device_submit(device, &batch, requests, count);
	return device_wait(device, &batch);
}

/* Each block names its place and generation. */
static void sign(void *data, uint32_t bytes, uint64_t offset, uint64_t generation)
{
	for (uint32_t at = 0; at < bytes; at += BLOCK) {
		uint64_t *block = (uint64_t *)((char *)data + at);

		for (unsigned i = 0; i < BLOCK / 8; i += 2) {
			block[i] = offset + at;
			block[i + 1] = generation;
		}
	}
}

static void check_signed(const void *data, uint32_t bytes, uint64_t offset,
    uint64_t generation)
{
	unsigned wrong = 0;

	for (uint32_t at = 0; at < bytes; at += BLOCK) {
		const uint64_t *block = (const uint64_t *)((const char *)data + at);

		for (unsigned i = 0; i < BLOCK / 8; i += 2)
			wrong += block[i] != offset + at || block[i + 1] != generation;
	}
	ck_assert_uint_eq(wrong, 0);
}

/* Writes and reads back through the slots [0, 8), with one more that has none. */
static void use_slots(struct device *device, char *base)
{
	struct device_request requests[9];
	char *other = test_bytes(SLOT, 0);

	for (unsigned i = 0; i < 9; i++) {
		char *data = i < 8 ? base + i * SLOT : other;

		requests[i] = request_of(DEVICE_WRITE, data, SLOT, i * SLOT);
		requests[i].slot = i < 8 ? i : DEVICE_NO_SLOT;
		sign(data, SLOT, i * SLOT, 77);
	}
	ck_ok(run(device, requests, 9));
	for (unsigned i = 0; i < 9; i++) {
		memset(requests[i].data, 0, SLOT);
		requests[i].op = DEVICE_READ;
	}
	ck_ok(run(device, requests, 9));
	for (unsigned i = 0; i < 9; i++)
		check_signed(requests[i].data, SLOT, i * SLOT, 77);
	free(other);
}

START_TEST(device_uring_uses_registered_slots)
{
	struct device *device = test_open(test_file(4 * MIB), DEVICE_IO_URING);
	char *base = test_slab(64 * SLOT);

	log_set_sink(count_line, NULL);
	ck_ok(strncmp(device_describe(device), "io_uring, not started", 21));
	device_register_slab(device, base, SLOT, 64);
	use_slots(device, base);
	ck_assert_ptr_null(strstr(device_describe(device), "registered"));
	device_register_slots(device, 0, 4);
	ck_ok(strncmp(device_describe(device), "io_uring, registered buffers", 28));
	use_slots(device, base);
	device_register_slots(device, 4, 60);
	use_slots(device, base);
	ck_assert_uint_eq(warning_count, 0);
	device_close(device);
}
END_TEST

START_TEST(device_uring_registers_more_slots_than_the_kernel_has_buffers)
{
	const uint32_t slot_count = 2 * 16384 + 1; /* three to a buffer */
	struct device *device = test_open(test_file(4 * MIB), DEVICE_IO_URING);
	char *base = test_slab((uint64_t)slot_count * SLOT);
	struct device_request request;

	log_set_sink(count_line, NULL);
	device_register_slab(device, base, SLOT, slot_count);
	device_register_slots(device, 0, 2);
	ck_assert_ptr_null(strstr(device_describe(device), "registered"));
	device_register_slots(device, 2, 7);
	ck_assert_ptr_nonnull(strstr(device_describe(device), "registered"));
	use_slots(device, base);
	device_register_slots(device, slot_count - 2, 2);
	request = request_of(DEVICE_READ, base + (slot_count - 1ull) * SLOT, SLOT, 0);
	request.slot = slot_count - 1;
	ck_ok(run(device, &request, 1));
	check_signed(request.data, SLOT, 0, 77);
	ck_assert_uint_eq(warning_count, 0);
	device_close(device);
}
END_TEST

/* A request that leaves its slot must not be sent as if it lay inside. */
START_TEST(device_uring_takes_data_outside_its_slot_as_plain)
{
	struct device *device = test_open(test_file(4 * MIB), DEVICE_IO_URING);
	char *base = test_slab(4 * SLOT);
	struct device_request request =
	    request_of(DEVICE_WRITE, base + SLOT / 2, SLOT, MIB);

	device_register_slab(device, base, SLOT, 4);
	device_register_slots(device, 0, 4);
	request.slot = 0;
	sign(request.data, SLOT, MIB, 1);
	ck_ok(run(device, &request, 1));
	request.data = base + 2 * SLOT;
	request.slot = 0;
	request.op = DEVICE_READ;
	ck_ok(run(device, &request, 1));
	check_signed(request.data, SLOT, MIB, 1);
	device_close(device);
}
END_TEST

START_TEST(device_uring_batch_may_be_longer_than_the_queue)
{
	const uint32_t count = 1000;
	struct device *device = test_open(test_file(4 * MIB), DEVICE_IO_URING);
	struct device_request *requests = calloc(count, sizeof(*requests));
	char *data = test_bytes(count * BLOCK, 0);

	for (uint32_t i = 0; i < count; i++)
		requests[i] = request_of(DEVICE_WRITE, data + i * BLOCK, BLOCK, i * BLOCK);
	sign(data, count * BLOCK, 0, 5);
	ck_ok(run(device, requests, count));
	memset(data, 0, count * BLOCK);
	for (uint32_t i = 0; i < count; i++)
		requests[i].op = DEVICE_READ;
	ck_ok(run(device, requests, count));
	check_signed(data, count * BLOCK, 0, 5);
	free(data);
	free(requests);
	device_close(device);
}
END_TEST

START_TEST(device_uring_batch_ends_under_polling)
{
	struct device *device = test_open(test_file(4 * MIB), DEVICE_IO_URING);
	void *data = test_bytes(MIB, 7);
	struct device_request request = request_of(DEVICE_WRITE, data, MIB, 0);
	struct device_batch batch;

	device_batch_init(&batch);
	device_submit(device, &batch, &request, 1);
	while (!device_batch_is_done(device, &batch))
		sched_yield();
	ck_ok(request.result);
	ck_ok(device_wait(device, &batch));
	ck_assert_int_eq(test_get(device, 255), 7);
	free(data);
	device_close(device);
}
END_TEST

struct worker {
	struct device *device;
	char *base; /* BATCH slots of its own */
	uint32_t first_slot;
	uint64_t offset; /* BATCH slots of the file of its own */
	uint64_t seed;
	int error;
};

/* Rounds of writes of random lengths, then reads into other slots. */
static void *work(void *arg)
{
	struct worker *worker = arg;
	struct device_request requests[BATCH];
	uint64_t random = worker->seed;

	for (uint64_t round = 1; round <= ROUNDS && worker->error == 0; round++) {
		uint32_t shift = (uint32_t)support_random_below(&random, BATCH);

		for (uint32_t i = 0; i < BATCH; i++) {
			uint32_t blocks = 1 + (uint32_t)support_random_below(&random, 4);
			uint64_t offset = worker->offset + i * SLOT;
			char *data = worker->base + i * SLOT;

			requests[i] = request_of(DEVICE_WRITE, data, blocks * BLOCK, offset);
			requests[i].slot = i % 3 ? worker->first_slot + i : DEVICE_NO_SLOT;
			sign(data, blocks * BLOCK, offset, round);
		}
		worker->error = run(worker->device, requests, BATCH);
		for (uint32_t i = 0; i < BATCH; i++) {
			uint32_t slot = (i + shift) % BATCH;

			requests[i].op = DEVICE_READ;
			requests[i].data = worker->base + slot * SLOT + SLOT / 2;
			requests[i].slot = worker->first_slot + slot;
		}
		if (worker->error == 0)
			worker->error = run(worker->device, requests, BATCH);
		for (uint32_t i = 0; i < BATCH && worker->error == 0; i++)
			check_signed(requests[i].data, requests[i].bytes,
			    requests[i].offset, round);
	}
	return NULL;
}

static void run_workers(struct device *device, unsigned count)
{
	char *base = test_slab((uint64_t)count * BATCH * SLOT);
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	uint64_t seed = support_seed(1);

	device_register_slab(device, base, SLOT, count * BATCH);
	device_register_slots(device, 0, count * BATCH / 2);
	for (unsigned i = 0; i < count; i++) {
		workers[i] = (struct worker){
		    .device = device,
		    .base = base + (uint64_t)i * BATCH * SLOT,
		    .first_slot = i * BATCH,
		    .offset = (uint64_t)i * BATCH * SLOT,
		    .seed = seed + i,
		};
		ck_ok(pthread_create(&threads[i], NULL, work, &workers[i]));
	}
	for (unsigned i = 0; i < count; i++) {
		ck_ok(pthread_join(threads[i], NULL));
		ck_ok(workers[i].error);
	}
}

START_TEST(device_uring_serves_many_threads_at_once)
{
	struct device *device = test_open(test_file(THREADS * BATCH * SLOT), DEVICE_IO_URING);
	struct device_counters counters;

	run_workers(device, THREADS);
	device_counters(device, &counters);
	ck_assert_uint_eq(counters.writes, THREADS * BATCH * ROUNDS);
	ck_assert_uint_eq(counters.reads, THREADS * BATCH * ROUNDS);
	device_close(device);
}
END_TEST

#define HANDED 300u /* more than the queue holds */

struct handed {
	struct device *device;
	struct device_batch batch;
	char *data;
	struct device_request requests[HANDED];
};

static void init_handed(struct handed *handed, enum device_op op)
{
	device_batch_init(&handed->batch);
	for (uint32_t i = 0; i < HANDED; i++)
		handed->requests[i] = request_of(
		    op, handed->data + i * BLOCK, BLOCK, i * BLOCK);
}

static void *submit_and_exit(void *arg)
{
	struct handed *handed = arg;

	for (uint32_t i = 0; i < HANDED; i += HANDED / 5)
		device_submit(handed->device, &handed->batch, &handed->requests[i],
		    HANDED / 5);
	return NULL;
}

static void *wait_for_it(void *arg)
{
	struct handed *handed = arg;

	ck_ok(device_wait(handed->device, &handed->batch));
	return NULL;
}

/* The submitter's kernel workers die with it, and requests that wait for one: each
 * round meets a file of holes, whose allocation is left to such workers. */
START_TEST(device_uring_batch_outlives_the_thread_that_submitted_it)
{
	const char *path = test_file(HANDED * BLOCK);
	struct device *device = test_open(path, DEVICE_IO_URING);
	struct handed handed = {.device = device};

	handed.data = test_bytes(HANDED * BLOCK, 3);
	for (unsigned round = 0; round < 20; round++) {
		pthread_t thread;

		ck_ok(truncate(path, 0));
		ck_ok(truncate(path, HANDED * BLOCK));
		init_handed(&handed, DEVICE_WRITE);
		sign(handed.data, HANDED * BLOCK, 0, round);
		ck_ok(pthread_create(&thread, NULL, submit_and_exit, &handed));
		ck_ok(pthread_join(thread, NULL));
		ck_ok(device_wait(device, &handed.batch));
		init_handed(&handed, DEVICE_READ);
		memset(handed.data, 0, HANDED * BLOCK);
		ck_ok(run(device, handed.requests, HANDED));
		check_signed(handed.data, HANDED * BLOCK, 0, round);
	}
	free(handed.data);
	device_close(device);
}
END_TEST

/* The waiter sleeps with nothing under way, then with a submitter that needs it to
 * make room. */
START_TEST(device_uring_wakes_a_waiter_that_came_before_the_requests)
{
	struct device *device = test_open(test_file(HANDED * BLOCK), DEVICE_IO_URING);
	struct handed handed = {.device = device};

	handed.data = test_bytes(HANDED * BLOCK, 3);
	for (unsigned round = 0; round < 50; round++) {
		pthread_t thread;

		init_handed(&handed, DEVICE_READ);
		/* Counted here already, so that the waiter cannot miss it. */
		atomic_store(&handed.batch.pending, 1);
		ck_ok(pthread_create(&thread, NULL, wait_for_it, &handed));
		if (round % 2)
			sched_yield();
		submit_and_exit(&handed);
		atomic_fetch_sub(&handed.batch.pending, 1);
		futex_wake(&handed.batch.pending, INT_MAX);
		ck_ok(pthread_join(thread, NULL));
	}
	free(handed.data);
	device_close(device);
}
END_TEST

/* From now on the kernel answers @error to the system call. */
static void deny(long number, int error)
{
	struct sock_filter filter[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = filter};

	ck_ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ck_ok(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

START_TEST(device_without_io_uring_falls_to_sync_and_says_so_once)
{
	const struct device_options forced = {.io = DEVICE_IO_URING};
	const char *path = test_file(THREADS * BATCH * SLOT);
	struct device *device;

	log_set_sink(count_line, NULL);
	deny(SYS_io_uring_setup, EPERM);
	ck_assert_int_eq(device_open(path, &forced, &device), -EPERM);
	device = test_open(path, DEVICE_IO_AUTO);
	run_workers(device, THREADS);
	ck_ok(strncmp(device_describe(device), "pread/pwrite", 12));
	ck_assert_uint_eq(warning_count, 1);
	device_close(device);
}
END_TEST

START_TEST(device_with_a_ring_that_stops_goes_on_and_says_so_once)
{
	struct device *device = test_open(test_file(THREADS * BATCH * SLOT), DEVICE_IO_AUTO);
	char *data = test_bytes(SLOT, 3);
	struct device_request request = request_of(DEVICE_WRITE, data, SLOT, 0);

	log_set_sink(count_line, NULL);
	ck_ok(run(device, &request, 1));
	ck_ok(strncmp(device_describe(device), "io_uring", 8));
	deny(SYS_io_uring_enter, EPERM);
	run_workers(device, THREADS);
	ck_ok(strncmp(device_describe(device), "pread/pwrite", 12));
	ck_assert_uint_eq(warning_count, 1);
	free(data);
	device_close(device);
}
END_TEST

/* The ring stops with requests inside: their answers still come. */
START_TEST(device_with_a_ring_that_stops_gets_what_was_under_way)
{
	struct device *device = test_open(test_file(BATCH * SLOT), DEVICE_IO_AUTO);
	char *data = test_bytes(BATCH * SLOT, 3);
	struct device_request requests[BATCH];
	struct device_batch batch;

	for (uint32_t i = 0; i < BATCH; i++)
		requests[i] = request_of(DEVICE_WRITE, data + i * SLOT, SLOT, i * SLOT);
	device_batch_init(&batch);
	device_submit(device, &batch, requests, BATCH - 1);
	deny(SYS_io_uring_enter, EPERM);
	ck_ok(device_wait(device, &batch));
	device_submit(device, &batch, &requests[BATCH - 1], 1);
	ck_ok(device_wait(device, &batch));
	for (uint32_t i = 0; i < BATCH; i++)
		ck_assert_int_eq(test_get(device, i * SLOT / BLOCK), 3);
	free(data);
	device_close(device);
}
END_TEST

START_TEST(device_short_of_locked_memory_uses_plain_buffers_and_says_so_once)
{
	const struct rlimit limit = {.rlim_cur = SLOT, .rlim_max = SLOT};
	struct device *device = test_open(test_file(4 * MIB), DEVICE_IO_AUTO);
	char *base = test_slab(64 * SLOT);

	log_set_sink(count_line, NULL);
	test_drop_capabilities();
	ck_ok(setrlimit(RLIMIT_MEMLOCK, &limit));
	device_register_slab(device, base, SLOT, 64);
	for (uint32_t i = 0; i < 64; i += 8)
		device_register_slots(device, i, 8);
	use_slots(device, base);
	ck_assert_ptr_null(strstr(device_describe(device), "registered buffers"));
	ck_ok(strncmp(device_describe(device), "io_uring", 8));
	ck_assert_uint_eq(warning_count, 1);
	device_close(device);
}
END_TEST

TCase *test_device_uring_case(void)
{
	TCase *tests = tcase_create("uring");

	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, device_uring_uses_registered_slots);
	tcase_add_test(tests, device_uring_registers_more_slots_than_the_kernel_has_buffers);
	tcase_add_test(tests, device_uring_takes_data_outside_its_slot_as_plain);
	tcase_add_test(tests, device_uring_batch_may_be_longer_than_the_queue);
	tcase_add_test(tests, device_uring_batch_ends_under_polling);
	tcase_add_test(tests, device_uring_serves_many_threads_at_once);
	tcase_add_test(tests, device_uring_batch_outlives_the_thread_that_submitted_it);
	tcase_add_test(tests, device_uring_wakes_a_waiter_that_came_before_the_requests);
	tcase_add_test(tests, device_without_io_uring_falls_to_sync_and_says_so_once);
	tcase_add_test(tests, device_with_a_ring_that_stops_goes_on_and_says_so_once);
	tcase_add_test(tests, device_with_a_ring_that_stops_gets_what_was_under_way);
	tcase_add_test(tests,
	    device_short_of_locked_memory_uses_plain_buffers_and_says_so_once);
	return tests;
}

/*
 * Checkpoints and recovery of our engine.
 *
 *	checkpoint		every key was put again, in random order; GB/s are bytes
 *				that reached the device over the time of the call
 *	checkpoint_put_p50..	how long single puts take that another thread makes while a
 *				checkpoint of all keys is under way
 *	recovery		a process is killed after putting every key; the time to
 *				open the store over the records replayed
 *
 * The engine's own threads are off: a checkpoint happens when it is asked for.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/bytes.h"
#include "bench/engine/child.h"
#include "bench/engine/ours.h"
#include "bench/engine/report.h"
#include "bench/engine/slice.h"

#define REPEATS 5
#define RECOVERIES 3

struct life {
	const struct bench_config *config;
	struct key_space keys;
	struct contender contender;
	struct bench_options options;
	uint64_t revision;
};

static void put_key(struct life *life, uint64_t index)
{
	uint8_t key[BENCH_KEY_MAX], value[BENCH_VALUE_MAX];
	size_t key_bytes = key_at(&life->keys, index, key);
	size_t value_bytes = value_at(&life->keys, index, ++life->revision, value);
	int err = driver_holt.put(life->contender.sessions[0], key, key_bytes, value,
	    value_bytes);

	if (err)
		bench_die("ours: put: %s", strerror(-err));
}

static void put_all(struct life *life)
{
	for (uint64_t i = 0; i < life->keys.keys; i++)
		put_key(life, shuffled(i, life->keys.keys));
}

static void settle(struct life *life)
{
	int err = driver_holt.settle(life->contender.engine);

	if (err)
		bench_die("ours: checkpoint: %s", strerror(-err));
}

static void begin(struct life *life, const struct bench_config *config,
    const struct workload *workload, uint64_t keys)
{
	memset(life, 0, sizeof(*life));
	life->config = config;
	key_space_init(&life->keys, workload, keys);
	life->options.keys = keys;
	life->options.cache_bytes = ample_cache(keys);
	life->options.is_quiet = true;
}

static void load(struct life *life)
{
	contender_open(&life->contender, life->config, &driver_holt, &life->options);
	contender_load(&life->contender, &life->keys, true);
	settle(life);
}

static void report(const struct life *life, const char *row, double number,
    const char *unit, const char *setting)
{
	struct bench_figure figure = {.peer = "", .ours = number, .unit = unit};

	snprintf(figure.name, sizeof(figure.name), "%s/%s/%llu", life->keys.workload->name, row,
	    (unsigned long long)life->keys.keys);
	snprintf(figure.setting, sizeof(figure.setting), "%s", setting);
	report_add(&figure);
}

/* ---- rate ------------------------------------------------------------------ */

static void run_rate(struct life *life)
{
	double rates[REPEATS], bytes = 0;
	struct process_usage before, after;
	char setting[128];

	for (unsigned i = 0; i < REPEATS; i++) {
		uint64_t from;

		put_all(life);
		process_usage(&before);
		from = bench_now_ns();
		settle(life);
		from = bench_now_ns() - from;
		process_usage(&after);
		bytes = (double)(after.write_bytes - before.write_bytes);
		rates[i] = bytes / (double)from;
	}
	snprintf(setting, sizeof(setting), "%.0f MB written by the last of %d, direct I/O, flushes included",
	    bytes / 1e6, REPEATS);
	report(life, "checkpoint", median_of(rates, REPEATS), "GB/s", setting);
}

/* ---- latency --------------------------------------------------------------- */

#define SAMPLES_MAX 8000000u

struct checkpointer {
	struct life *life;
	atomic_bool is_done;
};

static void *make_checkpoint(void *ctx)
{
	struct checkpointer *checkpointer = ctx;

	settle(checkpointer->life);
	atomic_store(&checkpointer->is_done, true);
	return NULL;
}

static uint32_t sample_puts(struct life *life, uint32_t *samples, uint32_t count, uint64_t seed)
{
	struct checkpointer checkpointer = {.life = life};
	struct bench_random random = {seed};
	pthread_t thread;

	if (pthread_create(&thread, NULL, make_checkpoint, &checkpointer))
		bench_die("no thread");
	while (!atomic_load(&checkpointer.is_done) && count < SAMPLES_MAX) {
		uint64_t from = bench_now_ns();

		put_key(life, random_below(&random, life->keys.keys));
		samples[count++] = (uint32_t)min_of(bench_now_ns() - from, (uint64_t)UINT32_MAX);
	}
	pthread_join(thread, NULL);
	return count;
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void run_latency(struct life *life)
{
	uint32_t *samples = malloc(SAMPLES_MAX * sizeof(*samples)), count = 0;
	struct rusage before, after;
	char setting[160];
	long preempted = 0;

	if (!samples)
		bench_die("out of memory");
	for (unsigned i = 0; i < REPEATS; i++) {
		put_all(life);
		getrusage(RUSAGE_THREAD, &before);
		count = sample_puts(life, samples, count, i);
		getrusage(RUSAGE_THREAD, &after);
		preempted += after.ru_nivcsw - before.ru_nivcsw;
	}
	qsort(samples, count, sizeof(*samples), compare_samples);
	snprintf(setting, sizeof(setting),
	    "%u puts by one thread during %d checkpoints of all keys; slowest %.0f us; "
	    "preempted %ld times",
	    count, REPEATS, samples[count - 1] / 1e3, preempted);
	report(life, "checkpoint_put_p50", samples[count / 2], "ns", setting);
	report(life, "checkpoint_put_p99", samples[(uint64_t)count * 99 / 100], "ns", setting);
	report(life, "checkpoint_put_p999", samples[(uint64_t)count * 999 / 1000], "ns", setting);
	free(samples);
}

void run_checkpoint_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	bool has_rate = config_wants_long(config, workload->name, "checkpoint", keys, 2000000);
	bool has_latency =
	    config_wants_long(config, workload->name, "checkpoint_put", keys, 2000000);
	struct life life;

	if (!has_rate && !has_latency)
		return;
	begin(&life, config, workload, keys);
	load(&life);
	if (has_rate)
		run_rate(&life);
	if (has_latency)
		run_latency(&life);
	contender_close(&life.contender);
}

/* ---- recovery -------------------------------------------------------------- */

struct recovery {
	struct life life;
	double ns, records;
};

static void put_and_die(void *ctx)
{
	struct recovery *recovery = ctx;
	struct life *life = &recovery->life;

	remove_tree(life->contender.dir);
	load(life);
	put_all(life);
	raise(SIGKILL);
}

static void recover(void *ctx)
{
	struct recovery *recovery = ctx;
	struct life *life = &recovery->life;
	struct ours_stats stats;
	uint64_t from = bench_now_ns();

	life->contender.engine = NULL;
	life->contender.session_count = 0;
	contender_reopen(&life->contender, &life->options);
	recovery->ns = (double)(bench_now_ns() - from);
	ours_stats(life->contender.engine, &stats);
	recovery->records = (double)stats.replayed_records;
	contender_shut(&life->contender);
}

void run_recovery_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	struct recovery *recovery;
	double rates[RECOVERIES], records = 0;
	char setting[160];

	if (!config_wants_long(config, workload->name, "recovery", keys, 2000000))
		return;
	recovery = shared_memory(sizeof(*recovery));
	begin(&recovery->life, config, workload, keys);
	snprintf(recovery->life.contender.dir, sizeof(recovery->life.contender.dir), "%s/%s",
	    config->dir, driver_holt.name);
	for (unsigned i = 0; i < RECOVERIES; i++) {
		child_run_killed(put_and_die, recovery);
		child_run(recover, recovery);
		records = recovery->records;
		rates[i] = records / recovery->ns * 1e3;
	}
	snprintf(setting, sizeof(setting),
	    "%.0f records of one put each replayed by the last of %d opens after kill -9, %.0f ms",
	    records, RECOVERIES, recovery->ns / 1e6);
	report(&recovery->life, "recovery", median_of(rates, RECOVERIES), "M/s", setting);
	shared_memory_free(recovery, sizeof(*recovery));
}

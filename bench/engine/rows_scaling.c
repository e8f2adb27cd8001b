/*
 * Two threads on directories of their own, beside one; and what the machine allows.
 *
 * In each round there are three slices: one thread, two threads on one store, and two
 * processes with a store each, which share nothing but the machine.  Two processors that
 * share a core, a memory bus or a host with others do not do twice the work of one: the
 * processes show how much they do, and the threads are measured against that, too.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "bench/engine/child.h"
#include "bench/engine/report.h"
#include "bench/engine/slice.h"

/* The other process: told to run a slice by a byte in a pipe, answers by another. */
struct helper {
	pid_t pid;
	int orders[2], answers[2];
	struct helper_slice {
		enum step_kind kind;
		uint64_t seed;
		double ns;
	} *slice;
};

static void open_loaded(struct contender *contender, const struct bench_config *config,
    const struct key_space *keys)
{
	struct bench_options options = {
	    .keys = keys->keys,
	    .cache_bytes = ample_cache(keys->keys),
	};

	contender_open(contender, config, &driver_holt, &options);
	contender_load(contender, keys, false);
	if (driver_holt.settle(contender->engine))
		bench_die("ours: does not settle");
}

static double run_threads(const struct bench_config *config, struct contender *contender,
    const struct key_space *keys, enum step_kind kind, unsigned threads, uint64_t seed)
{
	struct slice slice = {
	    .driver = &driver_holt,
	    .sessions = contender->sessions,
	    .space = keys,
	    .kind = kind,
	    .threads = threads,
	    .parts = 2,
	    .chunk_steps = CHUNK_STEPS,
	    .seed = seed,
	    .run_ns = config->slice_ns,
	    .warm_ns = config->slice_ns / 50,
	};

	return slice_run(&slice);
}

static void serve(struct helper *helper, const struct bench_config *config,
    const struct key_space *keys)
{
	struct bench_config own = *config;
	struct contender contender;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(own.dir, sizeof(own.dir), "%.3990s/helper", config->dir);
	if (mkdir(own.dir, 0700) != 0)
		bench_die("%s: %s", own.dir, strerror(errno));
	close(helper->orders[1]);
	open_loaded(&contender, &own, keys);
	while (write(helper->answers[1], "", 1) == 1 && read(helper->orders[0], &byte, 1) == 1)
		helper->slice->ns = run_threads(&own, &contender, keys,
		    helper->slice->kind, 1, helper->slice->seed);
	contender_close(&contender);
	_exit(0);
}

static void helper_wait(struct helper *helper)
{
	char byte;

	if (read(helper->answers[0], &byte, 1) != 1)
		bench_die("the second process is gone");
}

static void helper_start(struct helper *helper, const struct bench_config *config,
    const struct key_space *keys)
{
	helper->slice = shared_memory(sizeof(*helper->slice));
	if (pipe(helper->orders) != 0 || pipe(helper->answers) != 0)
		bench_die("pipe: %s", strerror(errno));
	helper->pid = fork();
	if (helper->pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (helper->pid == 0)
		serve(helper, config, keys);
	close(helper->orders[0]);
	close(helper->answers[1]);
	helper_wait(helper);
}

static void helper_stop(struct helper *helper)
{
	close(helper->orders[1]);
	waitpid(helper->pid, NULL, 0);
	shared_memory_free(helper->slice, sizeof(*helper->slice));
}

/* How many times as much per second two processes do as one thread. */
static double run_processes(const struct bench_config *config, struct contender *contender,
    const struct key_space *keys, enum step_kind kind, struct helper *helper, uint64_t seed)
{
	double ns;

	helper->slice->kind = kind;
	helper->slice->seed = seed;
	if (write(helper->orders[1], "", 1) != 1)
		bench_die("the second process is gone");
	ns = run_threads(config, contender, keys, kind, 1, seed);
	helper_wait(helper);
	return 1 / (1 / ns + 1 / helper->slice->ns);
}

static void run_kind(const struct bench_config *config, struct contender *contender,
    const struct key_space *keys, enum step_kind kind, const char *row, struct helper *helper)
{
	struct bench_figure figure = {.peer = "two-processes", .unit = "x"};
	double threads[ROUNDS_MAX], processes[ROUNDS_MAX], ratios[ROUNDS_MAX];

	for (unsigned i = 0; i < config->rounds; i++) {
		double one = run_threads(config, contender, keys, kind, 1, 50 + i);

		threads[i] = one / run_threads(config, contender, keys, kind, 2, 50 + i);
		processes[i] =
		    one / run_processes(config, contender, keys, kind, helper, 50 + i);
		ratios[i] = threads[i] / processes[i];
	}
	snprintf(figure.name, sizeof(figure.name), "%s/%s/%llu", keys->workload->name, row,
	    (unsigned long long)keys->keys);
	figure.ours = median_of(threads, config->rounds);
	figure.theirs = median_of(processes, config->rounds);
	figure.ratio = median_of(ratios, config->rounds);
	snprintf(figure.setting, sizeof(figure.setting),
	    "two threads over one thread; peer: two processes with a store each over one thread");
	report_add(&figure);
}

void run_scaling_rows(const struct bench_config *config, const struct workload *workload,
    uint64_t keys)
{
	bool has_get = config_wants_long(config, workload->name, "scaling_get", keys, 200000);
	bool has_put = config_wants_long(config, workload->name, "scaling_put", keys, 200000);
	struct contender contender;
	struct helper helper;
	struct key_space space;

	if (!has_get && !has_put)
		return;
	key_space_init(&space, workload, keys);
	helper_start(&helper, config, &space);
	open_loaded(&contender, config, &space);
	contender_sessions(&contender, 2, BENCH_PROCESS);
	if (has_get)
		run_kind(config, &contender, &space, STEP_GET, "scaling_get", &helper);
	if (has_put)
		run_kind(config, &contender, &space, STEP_PUT, "scaling_put", &helper);
	contender_close(&contender);
	helper_stop(&helper);
}

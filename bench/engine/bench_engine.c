/*
 * bench-engine: libholt beside LMDB, RocksDB and SQLite.  docs/benchmarks.md says what
 * each row is and what is fair about it.
 *
 * The program itself opens no store.  Each group of rows runs in a child, and when that
 * has ended, however it did, what it left in the directory is removed.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <errno.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "bench/engine/child.h"
#include "bench/engine/report.h"
#include "holt/holt.h"

void bench_die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "bench-engine: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

size_t bench_after_prefix(const void *prefix, size_t bytes, void *ret)
{
	uint8_t *to = ret;

	if (prefix != ret)
		memcpy(to, prefix, bytes);
	to[bytes - 1]++;
	return bytes;
}

size_t bench_entry_bytes(const void *key, size_t key_bytes, size_t prefix_bytes)
{
	const uint8_t *slash = memchr((const uint8_t *)key + prefix_bytes, '/',
	    key_bytes - prefix_bytes);

	return slash ? (size_t)(slash - (const uint8_t *)key) + 1 : key_bytes;
}

/* ---- what is asked for ----------------------------------------------------- */

static bool matches(const char *patterns, const char *name)
{
	char *copy, *state, *pattern;
	bool is_match = false;

	if (!patterns)
		return true;
	copy = strdup(patterns);
	if (!copy)
		bench_die("out of memory");
	for (pattern = strtok_r(copy, ", ", &state); pattern && !is_match;
	     pattern = strtok_r(NULL, ", ", &state))
		is_match = fnmatch(pattern, name, 0) == 0;
	free(copy);
	return is_match;
}

bool config_wants(const struct bench_config *config, const char *workload, const char *row)
{
	char name[96];

	if (config->is_quick && !config->rows && strcmp(workload, "fs") != 0)
		return false;
	snprintf(name, sizeof(name), "%s/%s", workload, row);
	return matches(config->rows, name);
}

bool config_wants_long(const struct bench_config *config, const char *workload,
    const char *row, uint64_t keys, uint64_t keys_min)
{
	if (!config->rows && (config->is_quick || keys < keys_min || strcmp(workload, "fs") != 0))
		return false;
	return config_wants(config, workload, row);
}

bool config_wants_peer(const struct bench_config *config, const char *peer)
{
	return matches(config->peers, peer);
}

const char *config_name(const struct bench_config *config)
{
	return strrchr(config->dir, '/') + 1;
}

static uint64_t number_from(const char *name, const char *text, char **end)
{
	uint64_t number;

	errno = 0;
	number = strtoull(text, end, 10);
	if (*end == text || errno || !number)
		bench_die("%s=%s: not a number", name, text);
	return number;
}

static uint64_t number_of(const char *name, uint64_t without, uint64_t max)
{
	const char *text = getenv(name);
	char *end;
	uint64_t number;

	if (!text || !*text)
		return without;
	number = number_from(name, text, &end);
	if (*end || number > max)
		bench_die("%s=%s: not a number up to %llu", name, text, (unsigned long long)max);
	return number;
}

static void read_sizes(struct bench_config *config, const char *text)
{
	char *end;

	for (; *text; text = *end ? end + 1 : end) {
		if (config->size_count == SIZES_MAX)
			bench_die("BENCH_SIZES: more than %d", SIZES_MAX);
		config->sizes[config->size_count++] = number_from("BENCH_SIZES", text, &end);
		if (*end && *end != ',' && *end != ' ')
			bench_die("BENCH_SIZES=%s: numbers with commas between them", text);
	}
}

static const char *text_of(const char *name)
{
	const char *text = getenv(name);

	return text && *text ? text : NULL;
}

static void read_config(struct bench_config *config)
{
	const char *quick = text_of("BENCH_QUICK"), *sizes = text_of("BENCH_SIZES");

	config->is_quick = quick && strcmp(quick, "0") != 0;
	config->rows = text_of("BENCH_ROWS");
	config->peers = text_of("BENCH_PEERS");
	config->rounds = (unsigned)number_of("BENCH_ROUNDS", config->is_quick ? 7 : 9, ROUNDS_MAX);
	config->slice_ns =
	    number_of("BENCH_SLICE_MS", config->is_quick ? 100 : 250, 60000) * 1000000;
	read_sizes(config, sizes ? sizes : config->is_quick ? "20000,2000000" :
							      "20000,200000,2000000");
}

/* ---- running --------------------------------------------------------------- */

static bench_group_fn *const groups[] = {run_speed_rows, run_space_rows, run_fill_rows,
    run_cold_rows, run_checkpoint_rows, run_recovery_rows, run_prefix_rows,
    run_scaling_rows};

static volatile sig_atomic_t stopped_by;
static volatile pid_t child;

static void make_dir(struct bench_config *config)
{
	const char *base = text_of("BENCH_DIR");

	if (!base)
		base = text_of("TMPDIR");
	snprintf(config->dir, sizeof(config->dir), "%s/bench-engine.XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(config->dir))
		bench_die("%s: %s", config->dir, strerror(errno));
}

static void show_log(void *ctx, enum log_level level, const char *line)
{
	if (level <= LOG_LEVEL_WARNING)
		fprintf(stderr, "bench-engine: ours: %s\n", line);
}

static void stop(int number)
{
	stopped_by = number;
	if (child > 0)
		kill(child, SIGKILL);
}

/* Did the group end well? */
static bool run_group(const struct bench_config *config, bench_group_fn *group,
    const struct workload *workload, uint64_t keys)
{
	int status;

	fflush(stdout);
	child = fork();
	if (child < 0)
		bench_die("fork: %s", strerror(errno));
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		log_set_sink(show_log, NULL);
		group(config, workload, keys);
		fflush(stdout);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			bench_die("waitpid: %s", strerror(errno));
	child = 0;
	if (WIFSIGNALED(status) && !stopped_by)
		fprintf(stderr, "bench-engine: ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void empty_dir(struct bench_config *config)
{
	remove_tree(config->dir);
	if (mkdir(config->dir, 0700) != 0)
		bench_die("%s: %s", config->dir, strerror(errno));
}

static bool run_all(struct bench_config *config)
{
	bool is_well = true;

	for (unsigned i = 0; i < workload_count; i++)
		for (unsigned j = 0; j < config->size_count; j++)
			for (unsigned k = 0; k < ARRAY_COUNT(groups) && !stopped_by; k++) {
				is_well &= run_group(config, groups[k], &workloads[i],
				    config->sizes[j]);
				empty_dir(config);
			}
	return is_well && !stopped_by;
}

static void write_json(void)
{
	const char *path = text_of("BENCH_JSON");
	int err;

	if (!path)
		path = "bench-engine.json";
	err = report_write(path);
	if (err)
		bench_die("%s: %s", path, strerror(-err));
}

/* Whoever reads the figures later wants to know whether the machine was busy. */
static void describe_machine(void)
{
	double load[1] = {0};

	getloadavg(load, 1);
	report_note("libholt %s, %ld processors, load %.1f", holt_version(),
	    sysconf(_SC_NPROCESSORS_ONLN), load[0]);
}

static const char help[] =
    "usage: [VARIABLE=VALUE]... bench-engine\n"
    "\n"
    "Measures libholt beside LMDB, RocksDB and SQLite; docs/benchmarks.md says how.\n"
    "\n"
    "  BENCH_QUICK=1    the main rows of fs at 20 000 and 2 000 000 keys\n"
    "  BENCH_ROWS       patterns of rows, such as fs/get,fs/list* (sizes do not count)\n"
    "  BENCH_SIZES      numbers of keys: 20000,2000000\n"
    "  BENCH_PEERS      patterns of peers: lmdb,sqlite\n"
    "  BENCH_ROUNDS, BENCH_SLICE_MS  how often, and how long each time\n"
    "  BENCH_DIR        where stores are made; TMPDIR or /tmp\n"
    "  BENCH_JSON       the file to write; bench-engine.json\n";

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = stop};
	struct bench_config config = {0};
	bool is_well;

	if (argc > 1) {
		bool is_asked = strcmp(argv[1], "--help") == 0;

		fputs(help, is_asked ? stdout : stderr);
		return is_asked ? 0 : 2;
	}
	read_config(&config);
	report_begin();
	make_dir(&config);
	describe_machine();
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	is_well = run_all(&config);
	remove_tree(config.dir);
	limit_memory_end(config_name(&config));
	if (stopped_by)
		return 128 + stopped_by;
	write_json();
	return is_well ? 0 : 1;
}

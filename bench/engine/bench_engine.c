/*
 * bench-engine: libholt beside LMDB, RocksDB and SQLite.  docs/benchmarks.md says what
 * each row is and what is fair about it.
 *
 * The program forks.  The child measures; the parent waits, and removes the child's
 * directory whatever became of it, so that nothing of many gigabytes stays behind.
 *
 * Environment:
 *	BENCH_QUICK=1	the main rows of fs at 20 000 and 2 000 000 keys
 *	BENCH_ROWS	patterns of rows, such as fs/get,fs/list* (sizes do not count)
 *	BENCH_SIZES	numbers of keys: 20000,2000000
 *	BENCH_PEERS	patterns of peers: lmdb,sqlite
 *	BENCH_ROUNDS, BENCH_SLICE_MS	how often, and how long each time
 *	BENCH_DIR	where stores are made; TMPDIR or /tmp
 *	BENCH_JSON	the file to write; bench-engine.json
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
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "bench/engine/report.h"

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

bool config_wants_peer(const struct bench_config *config, const char *peer)
{
	return matches(config->peers, peer);
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

static void make_dir(struct bench_config *config)
{
	const char *base = text_of("BENCH_DIR");

	if (!base)
		base = text_of("TMPDIR");
	snprintf(config->dir, sizeof(config->dir), "%s/bench-engine.XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(config->dir))
		bench_die("%s: %s", config->dir, strerror(errno));
}

/* ---- running --------------------------------------------------------------- */

static void run_all(const struct bench_config *config)
{
	const char *json = text_of("BENCH_JSON");
	int err;

	for (unsigned i = 0; i < workload_count; i++)
		for (unsigned j = 0; j < config->size_count; j++)
			run_speed_rows(config, &workloads[i], config->sizes[j]);
	err = report_write(json ? json : "bench-engine.json");
	if (err)
		bench_die("%s: %s", json ? json : "bench-engine.json", strerror(-err));
}

static pid_t child;

static void pass_on(int number)
{
	kill(child, SIGKILL);
}

static int wait_for_child(void)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			bench_die("waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "bench-engine: ended by signal %d\n", WTERMSIG(status));
		return 1;
	}
	return WEXITSTATUS(status);
}

int main(void)
{
	struct sigaction action = {.sa_handler = pass_on};
	struct bench_config config = {0};
	int status;

	read_config(&config);
	make_dir(&config);
	child = fork();
	if (child < 0)
		bench_die("fork: %s", strerror(errno));
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_all(&config);
		return 0;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	status = wait_for_child();
	remove_tree(config.dir);
	return status;
}

/*
 * Contenders: stores of each engine in directories of their own, filled with the same.
 */
#include "config.h"

#include "bench/engine/bench_engine.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"

#define LOAD_BATCH 1000

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void remove_tree(const char *path)
{
	if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		fprintf(stderr, "%s: left behind: %s\n", path, strerror(errno));
}

uint64_t ample_cache(uint64_t keys)
{
	return max_of(256ull << 20, round_up(keys * 512, 1 << 20));
}

static void must(const struct contender *contender, int err, const char *what)
{
	if (err)
		bench_die("%s: %s: %s", contender->driver->name, what, strerror(-err));
}

void contender_drop_sessions(struct contender *contender)
{
	for (unsigned i = 0; i < contender->session_count; i++)
		contender->driver->session_close(contender->sessions[i]);
	contender->session_count = 0;
}

void contender_shut(struct contender *contender)
{
	if (!contender->engine)
		return;
	contender_drop_sessions(contender);
	contender->driver->close(contender->engine);
	contender->engine = NULL;
}

void contender_reopen(struct contender *contender, const struct bench_options *options)
{
	struct bench_options own = *options;

	contender_shut(contender);
	own.dir = contender->dir;
	must(contender, contender->driver->open(&own, &contender->engine), "open");
}

void contender_open(struct contender *contender, const struct bench_config *config,
    const struct bench_driver *driver, const struct bench_options *options)
{
	memset(contender, 0, sizeof(*contender));
	contender->driver = driver;
	snprintf(contender->dir, sizeof(contender->dir), "%s/%s", config->dir, driver->name);
	if (mkdir(contender->dir, 0700) != 0)
		bench_die("%s: %s", contender->dir, strerror(errno));
	contender_reopen(contender, options);
}

void contender_close(struct contender *contender)
{
	contender_shut(contender);
	remove_tree(contender->dir);
}

void contender_sessions(struct contender *contender, unsigned count, enum bench_level level)
{
	if (level != contender->level)
		contender_drop_sessions(contender);
	contender->level = level;
	while (contender->session_count < count) {
		must(contender,
		    contender->driver->session_open(contender->engine, level,
			&contender->sessions[contender->session_count]),
		    "session");
		contender->session_count++;
	}
}

struct load_batch {
	uint8_t keys[LOAD_BATCH][BENCH_KEY_MAX], values[LOAD_BATCH][BENCH_VALUE_MAX];
	const void *key[LOAD_BATCH], *value[LOAD_BATCH];
	size_t key_bytes[LOAD_BATCH], value_bytes[LOAD_BATCH];
};

void contender_load(struct contender *contender, const struct key_space *space, bool is_random)
{
	static struct load_batch batch;
	unsigned count = 0;

	contender_sessions(contender, 1, BENCH_PROCESS);
	for (uint64_t i = 0; i < space->keys; i++) {
		uint64_t index = is_random ? shuffled(i, space->keys) : i;

		batch.key[count] = batch.keys[count];
		batch.value[count] = batch.values[count];
		batch.key_bytes[count] = key_at(space, index, batch.keys[count]);
		batch.value_bytes[count] = value_at(space, index, 0, batch.values[count]);
		if (++count < LOAD_BATCH && i + 1 < space->keys)
			continue;
		must(contender,
		    contender->driver->load(contender->sessions[0], batch.key,
			batch.key_bytes, batch.value, batch.value_bytes, count),
		    "load");
		count = 0;
	}
}

/*
 * What every engine that takes part in the benchmark can do, and how it is asked.
 *
 * An *engine* is one store in one directory.  A *session* is one thread's way to use it:
 * it owns what an application would keep from call to call (prepared statements,
 * cursors, transactions).  Reads of a session may share one read transaction until the
 * session writes, or pauses: nobody pays for more than an application would.
 *
 * Functions answer 0 or a negative errno; what cannot be is a mistake of the benchmark
 * or of an engine, and ends the program (bench_die()).
 */
#ifndef BENCH_ENGINE_DRIVER_H
#define BENCH_ENGINE_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a write has survived when the call returns. */
enum bench_level {
	BENCH_LOSSY,   /* nothing yet */
	BENCH_PROCESS, /* the death of the process */
	BENCH_SYNC,    /* loss of power */
};

struct bench_options {
	const char *dir;      /* empty, or where the same engine was closed */
	uint64_t keys;	      /* about how many there will be */
	uint64_t cache_bytes; /* the same for all */
	bool is_direct;	      /* the host caches nothing, where the engine can do that */
	bool is_quiet;	      /* no work in the background but what is asked for */
};

/* Takes what is read, as an application would: every key and value is touched once.
 * The sums are the same for all engines, which shows that they did the same: of values
 * their last bytes count, which no put changes. */
struct bench_sink {
	uint64_t items, sum;
};

static inline void sink_key(struct bench_sink *sink, const void *key, size_t bytes)
{
	sink->items++;
	sink->sum += bytes + ((const uint8_t *)key)[bytes - 1];
}

static inline void sink_value(struct bench_sink *sink, const void *value, size_t bytes)
{
	sink->sum += bytes + ((const uint8_t *)value)[bytes - 1];
}

struct bench_list {
	const void *prefix;
	size_t prefix_bytes;
	const void *after; /* keys behind this one; NULL: from the first */
	size_t after_bytes;
	unsigned limit;
	bool has_values;
};

/* What an engine did since it was opened; UINT64_MAX: it does not tell. */
struct bench_counters {
	uint64_t reads, read_bytes;
	uint64_t written_bytes;
};

struct bench_driver {
	const char *name;
	bool writes_only; /* takes part in rows of puts only */

	int (*open)(const struct bench_options *options, void **ret_engine);
	void (*close)(void *engine);
	/* Everything written is on disk in the engine's own best form for reading. */
	int (*settle)(void *engine);

	int (*session_open)(void *engine, enum bench_level level, void **ret_session);
	void (*session_close)(void *session);
	void (*pause)(void *session); /* lets transactions and cursors go */

	/* @count puts, however they are fastest; not timed. */
	int (*load)(void *session, const void *const *keys, const size_t *key_bytes,
	    const void *const *values, const size_t *value_bytes, unsigned count);

	int (*get)(void *session, const void *key, size_t key_bytes, struct bench_sink *sink);
	int (*put)(void *session, const void *key, size_t key_bytes, const void *value,
	    size_t value_bytes);
	int (*erase)(void *session, const void *key, size_t key_bytes);
	/* @dst must not exist. */
	int (*rename)(void *session, const void *src, size_t src_bytes, const void *dst,
	    size_t dst_bytes);
	int (*list)(void *session, const struct bench_list *list, struct bench_sink *sink);
	/* Entries below the prefix, up to and with the next '/'; keys below one of those
	 * are passed over by seeking. */
	int (*list_dir)(void *session, const struct bench_list *list, struct bench_sink *sink);

	/* How it was set, for the reader of the figure. */
	const char *(*setting)(enum bench_level level);
};

extern const struct bench_driver driver_holt, driver_lmdb, driver_lmdb_writemap,
    driver_rocksdb, driver_sqlite;

__attribute__((noreturn, format(printf, 1, 2))) void bench_die(const char *format, ...);

/* Behind everything that begins with @prefix: its last byte one higher.  Prefixes of the
 * benchmark end with '/', so no byte overflows. */
size_t bench_after_prefix(const void *prefix, size_t bytes, void *ret);

/* The length of @key's entry below the prefix: with its '/' if it has one there. */
size_t bench_entry_bytes(const void *key, size_t key_bytes, size_t prefix_bytes);

#define BENCH_KEY_MAX 256u
#define BENCH_VALUE_MAX 256u

#endif

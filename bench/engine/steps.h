/*
 * What a row does: a stream of steps drawn at random, prepared a chunk at a time outside
 * the measured time, and taken by an engine inside it.
 */
#ifndef BENCH_ENGINE_STEPS_H
#define BENCH_ENGINE_STEPS_H

#include "bench/engine/driver.h"
#include "bench/engine/workload.h"

enum step_kind {
	STEP_GET,
	STEP_PUT,
	STEP_LIST,	  /* the first 100 keys of a directory */
	STEP_LIST_VALUES, /* with their values */
	STEP_LIST_PAGE,	  /* 100 keys behind a key drawn at random */
	STEP_LIST_DIR,	  /* 8 directories */
	STEP_CREATE_DELETE,
	STEP_RENAME, /* there and back */
	/* Kinds of rows only: */
	STEP_MIXED,	    /* a get or a put */
	STEP_METADATA_MIX,
};

#define LIST_LIMIT 100
#define LIST_DIR_LIMIT 8

struct step {
	enum step_kind kind;
	uint32_t key_bytes, value_bytes;
	const uint8_t *key, *value; /* LIST_PAGE: the key to list behind */
};

/* Small enough to stay in the first-level cache beside an engine's upper nodes. */
#define CHUNK_STEPS 128

struct step_stream {
	const struct key_space *space;
	struct bench_random random;
	enum step_kind kind;
	uint64_t first, count; /* keys drawn from */
	uint64_t first_dir, dirs;
	uint8_t create_key[BENCH_KEY_MAX], rename_key[BENCH_KEY_MAX], source_key[BENCH_KEY_MAX];
	size_t create_bytes, rename_bytes, source_bytes;
	struct step steps[CHUNK_STEPS];
	uint8_t bytes[CHUNK_STEPS * 160];
};

/* Thread @thread of @threads draws from its own part of the keys, in directories of its
 * own, so that two threads meet only in the engine. */
void step_stream_init(struct step_stream *stream, const struct key_space *space,
    enum step_kind kind, unsigned thread, unsigned threads, uint64_t seed);

/* Draws @count steps, at most CHUNK_STEPS. */
void step_stream_fill(struct step_stream *stream, unsigned count);

void steps_take(const struct step_stream *stream, unsigned count,
    const struct bench_driver *driver, void *session, struct bench_sink *sink);

#endif

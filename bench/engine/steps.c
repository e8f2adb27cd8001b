/*
 * Steps: drawn (not timed), then taken (timed).  The loop that takes them adds a switch
 * and an indirect call a step, the same for every engine.
 */
#include "config.h"

#include "bench/engine/steps.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

void step_stream_init(struct step_stream *stream, const struct key_space *space,
    enum step_kind kind, unsigned thread, unsigned threads, uint64_t seed)
{
	stream->space = space;
	stream->kind = kind;
	stream->random.state = mix_bits(seed + thread);
	stream->dirs = max_of(space->dirs / threads, 1ull);
	stream->first_dir = space->dirs < threads ? 0 : thread * stream->dirs;
	stream->count = space->keys / threads;
	stream->first = thread * stream->count;
	stream->create_bytes = scratch_key(space, "create_delete", thread, stream->create_key);
	stream->rename_bytes = scratch_key(space, "rename_dst", thread, stream->rename_key);
	stream->source_bytes =
	    key_at(space, stream->first + stream->count / 3, stream->source_key);
}

static enum step_kind draw_kind(struct step_stream *stream)
{
	uint64_t percent;

	if (stream->kind == STEP_MIXED)
		return random_below(&stream->random, 2) ? STEP_GET : STEP_PUT;
	if (stream->kind != STEP_METADATA_MIX)
		return stream->kind;
	percent = random_below(&stream->random, 100);
	return percent < 45 ? STEP_GET :
	       percent < 65 ? STEP_PUT :
	       percent < 75 ? STEP_LIST :
	       percent < 85 ? STEP_LIST_DIR :
	       percent < 95 ? STEP_CREATE_DELETE :
			      STEP_RENAME;
}

static uint8_t *fill_key(struct step_stream *stream, struct step *step, bool has_value, uint8_t *to)
{
	uint64_t index = stream->first + random_below(&stream->random, stream->count);

	step->key = to;
	step->key_bytes = (uint32_t)key_at(stream->space, index, to);
	to += step->key_bytes;
	if (has_value) {
		step->value = to;
		step->value_bytes = (uint32_t)value_at(stream->space, index,
		    random_next(&stream->random) >> 16, to);
		to += step->value_bytes;
	}
	return to;
}

static uint8_t *fill_page(struct step_stream *stream, struct step *step, uint8_t *to)
{
	uint64_t index = stream->first + random_below(&stream->random, stream->count);

	step->key = to;
	step->key_bytes = (uint32_t)dir_at(stream->space, index / stream->space->dir_keys, to);
	step->value = to + step->key_bytes;
	step->value_bytes = (uint32_t)key_at(stream->space, index, to + step->key_bytes);
	return to + step->key_bytes + step->value_bytes;
}

static uint8_t *fill_dir(struct step_stream *stream, struct step *step, uint8_t *to)
{
	uint64_t dir = stream->first_dir + random_below(&stream->random, stream->dirs);

	step->key = to;
	step->key_bytes = (uint32_t)dir_at(stream->space, dir, to);
	return to + step->key_bytes;
}

static uint8_t *fill_step(struct step_stream *stream, struct step *step, uint8_t *to)
{
	step->kind = draw_kind(stream);
	switch (step->kind) {
	case STEP_GET:
		return fill_key(stream, step, false, to);
	case STEP_PUT:
		return fill_key(stream, step, true, to);
	case STEP_LIST_PAGE:
		return fill_page(stream, step, to);
	case STEP_LIST:
	case STEP_LIST_VALUES:
		return fill_dir(stream, step, to);
	case STEP_LIST_DIR:
		step->key = (const uint8_t *)stream->space->workload->root;
		step->key_bytes = (uint32_t)strlen(stream->space->workload->root);
		return to;
	case STEP_CREATE_DELETE:
		step->value = to;
		step->value_bytes = (uint32_t)value_at(stream->space, stream->first, 0, to);
		return to + step->value_bytes;
	default:
		return to;
	}
}

void step_stream_fill(struct step_stream *stream, unsigned count)
{
	uint8_t *to = stream->bytes;

	for (unsigned i = 0; i < count; i++)
		to = fill_step(stream, &stream->steps[i], to);
}

static int take_list(const struct step *step, const struct bench_driver *driver,
    void *session, struct bench_sink *sink)
{
	struct bench_list list = {
	    .prefix = step->key,
	    .prefix_bytes = step->key_bytes,
	    .limit = LIST_LIMIT,
	    .has_values = step->kind == STEP_LIST_VALUES,
	};

	if (step->kind == STEP_LIST_DIR) {
		list.limit = LIST_DIR_LIMIT;
		return driver->list_dir(session, &list, sink);
	}
	if (step->kind == STEP_LIST_PAGE) {
		list.after = step->value;
		list.after_bytes = step->value_bytes;
	}
	return driver->list(session, &list, sink);
}

static int create_and_delete(const struct step_stream *stream, const struct step *step,
    const struct bench_driver *driver, void *session)
{
	int err = driver->put(session, stream->create_key, stream->create_bytes,
	    step->value, step->value_bytes);

	return err ? err : driver->erase(session, stream->create_key, stream->create_bytes);
}

static int rename_and_back(const struct step_stream *stream,
    const struct bench_driver *driver, void *session)
{
	int err = driver->rename(session, stream->source_key, stream->source_bytes,
	    stream->rename_key, stream->rename_bytes);

	return err ? err :
		     driver->rename(session, stream->rename_key, stream->rename_bytes,
			 stream->source_key, stream->source_bytes);
}

static int take(const struct step_stream *stream, const struct step *step,
    const struct bench_driver *driver, void *session, struct bench_sink *sink)
{
	switch (step->kind) {
	case STEP_GET:
		return driver->get(session, step->key, step->key_bytes, sink);
	case STEP_PUT:
		return driver->put(session, step->key, step->key_bytes, step->value,
		    step->value_bytes);
	case STEP_CREATE_DELETE:
		return create_and_delete(stream, step, driver, session);
	case STEP_RENAME:
		return rename_and_back(stream, driver, session);
	default:
		return take_list(step, driver, session, sink);
	}
}

void steps_take(const struct step_stream *stream, unsigned count,
    const struct bench_driver *driver, void *session, struct bench_sink *sink)
{
	for (unsigned i = 0; i < count; i++) {
		const struct step *step = &stream->steps[i];
		int err = take(stream, step, driver, session, sink);

		/* While renaming, the source is gone for a moment: with threads each
		 * has its own. */
		if (err)
			bench_die("%s: step of kind %d: %s", driver->name, step->kind,
			    strerror(-err));
	}
}

/*
 * Reading the log after a crash.
 *
 *     from                          end                         from + log bytes
 *      | MARK BATCH PAD | MARK BATCH | ?  |    |    |    |    |    |
 *      |---- every record verifies --|    ^    ^    ^    ^    ^
 *                                         only MARKs are looked for,
 *                                         at block boundaries
 *
 * The first pass walks from record to record to the first that does not verify, and
 * then on from block to block, for one lap: a MARK found there that names an LSN
 * behind the end proves that what is missing had been flushed.  Then the log is
 * damaged, and not merely cut short by a crash.  A MARK that verifies is of this
 * volume and this lap (journal_format.c), so nothing stale can accuse the log.  The
 * second pass shows the records to the visitor.
 *
 * The log is read in chunks, and while one is looked at the next is on its way.
 *
 *      window                        other buffer
 *     [    | chunk |  record ... ]  [ ... record | next chunk ]
 *                    ^ tail              copied: ^
 *
 * Where a record goes on in the next chunk, its beginning is copied before that.
 *
 * Bytes come from two places.  Below the `written` of a ring that a dead process
 * left in shared memory, and always without one, from the device; from there on
 * from the ring.  One record may have parts from both.
 *
 * All of this is input from outside: no length is believed before it is bounded by
 * the lap and by JOURNAL_RECORD_MAX, and pads and marks are records like others;
 * nothing is skipped or guessed.
 */
#include "config.h"

#include "journal/journal_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

#define CHUNK_BYTES (4096u * 1024)
#define READ_BYTES (512u * 1024)
#define READ_REQUESTS (CHUNK_BYTES / READ_BYTES + 1) /* one more where the log wraps */

/* Place before a chunk for all of a record but its end, from its block on. */
#define TAIL_BYTES_MAX (JOURNAL_RECORD_MAX + BLOCK_BYTES)

/* A chunk on its way: so many bytes of it from the device. */
struct ahead {
	struct device_request requests[READ_REQUESTS];
	struct device_batch batch;
	lsn_t start;
	uint32_t bytes, from_device; /* bytes 0: none is */
};

/* A window [start, start + bytes) of the log, whole blocks, in memory. */
struct reader {
	const struct journal_place *place;
	uint64_t seed;
	lsn_t limit; /* one lap from where reading began */
	struct journal_ring ring;
	lsn_t ring_from; /* bytes from here on come from the ring; else limit */
	lsn_t ring_to;	 /* and are zeros from here on */

	uint8_t *buffers[2]; /* the window lies in the first, the chunk ahead in the other */
	uint8_t *window;
	lsn_t start;
	uint32_t bytes;
	struct ahead ahead;

	lsn_t known_durable; /* the highest that a MARK named */
};

/* ---- bytes ------------------------------------------------------------------- */

static void read_ring(struct reader *reader, uint8_t *to, lsn_t lsn, uint64_t bytes)
{
	uint64_t there = lsn < reader->ring_to ? reader->ring_to - lsn : 0;

	there = min_of(there, bytes);
	if (there)
		memcpy(to, journal_ring_at(&reader->ring, lsn), there);
	memset(to + there, 0, bytes - there);
}

/* Several requests at once: one alone does not keep a fast device busy. */
static void begin_ahead(struct reader *reader, lsn_t lsn)
{
	struct ahead *ahead = &reader->ahead;
	uint64_t bytes = min_of((uint64_t)CHUNK_BYTES, reader->limit - lsn);
	uint64_t left = lsn < reader->ring_from ? min_of(bytes, reader->ring_from - lsn) : 0;
	uint8_t *to = reader->buffers[1] + TAIL_BYTES_MAX;
	uint32_t count = 0;

	ahead->start = lsn;
	ahead->bytes = (uint32_t)bytes;
	ahead->from_device = (uint32_t)left;
	while (left > 0) {
		uint64_t until_wrap = reader->place->bytes - lsn % reader->place->bytes;
		uint64_t run = min_of(left, until_wrap);

		run = min_of(run, (uint64_t)READ_BYTES);
		ASSERT(count < READ_REQUESTS);
		ahead->requests[count++] = (struct device_request){
		    .op = DEVICE_READ,
		    .slot = DEVICE_NO_SLOT,
		    .data = to,
		    .bytes = (uint32_t)run,
		    .offset = place_offset(reader->place, lsn),
		};
		to += run;
		lsn += run;
		left -= run;
	}
	device_batch_init(&ahead->batch);
	if (count)
		device_submit(reader->place->device, &ahead->batch, ahead->requests, count);
}

static int end_ahead(struct reader *reader)
{
	struct ahead *ahead = &reader->ahead;
	uint32_t from_device = ahead->from_device;
	int err = from_device ? device_wait(reader->place->device, &ahead->batch) : 0;

	if (!err && from_device < ahead->bytes)
		read_ring(reader, reader->buffers[1] + TAIL_BYTES_MAX + from_device,
		    ahead->start + from_device, ahead->bytes - from_device);
	return err;
}

static int make_buffers(struct reader *reader)
{
	for (unsigned i = 0; i < 2; i++) {
		if (!reader->buffers[i])
			reader->buffers[i] = aligned_alloc(DEVICE_ALIGN, TAIL_BYTES_MAX + CHUNK_BYTES);
		if (!reader->buffers[i])
			return -ENOMEM;
	}
	return 0;
}

/* The window's end becomes the window's beginning, and the chunk ahead follows. */
static int next_window(struct reader *reader, lsn_t start)
{
	uint32_t tail = (uint32_t)(reader->start + reader->bytes - start);
	uint8_t *buffer = reader->buffers[1], *window = buffer + TAIL_BYTES_MAX - tail;
	int err = end_ahead(reader);

	ASSERT(tail <= TAIL_BYTES_MAX);
	if (tail)
		memcpy(window, reader->window + (start - reader->start), tail);
	reader->window = window;
	reader->start = start;
	reader->bytes = err ? 0 : tail + reader->ahead.bytes;
	reader->ahead.bytes = 0;
	reader->buffers[1] = reader->buffers[0];
	reader->buffers[0] = buffer;
	if (!err && start + reader->bytes < reader->limit)
		begin_ahead(reader, start + reader->bytes);
	return err;
}

/* Moves the window so that it holds at least [@lsn, @lsn + @bytes), a record at most. */
static int fill_window(struct reader *reader, lsn_t lsn, uint32_t bytes)
{
	lsn_t start = round_down(lsn, BLOCK_BYTES);
	int err = make_buffers(reader);

	/* Where reading does not go on. */
	if (!err && (start < reader->start || start > reader->start + reader->bytes || !reader->ahead.bytes)) {
		if (reader->ahead.bytes)
			end_ahead(reader);
		reader->start = start;
		reader->bytes = 0;
		begin_ahead(reader, start);
	}
	while (!err && lsn + bytes > reader->start + reader->bytes)
		err = next_window(reader, start);
	return err;
}

/* @bytes of log at @lsn, valid until the next call; they end before the limit. */
static int get_bytes(struct reader *reader, lsn_t lsn, uint32_t bytes, const void **ret)
{
	if (lsn < reader->start || lsn + bytes > reader->start + reader->bytes) {
		int err = fill_window(reader, lsn, bytes);

		if (err)
			return err;
	}
	*ret = reader->window + (lsn - reader->start);
	return 0;
}

/* ---- records ------------------------------------------------------------------- */

/* -ENOENT: no record verifies at @lsn. */
static int get_record(struct reader *reader, lsn_t lsn, const struct journal_record **ret)
{
	const void *bytes;
	int err;

	if (lsn + RECORD_HEADER_BYTES > reader->limit)
		return -ENOENT;
	err = get_bytes(reader, lsn, RECORD_HEADER_BYTES, &bytes);
	if (err)
		return err;
	if (!journal_record_is_plausible(bytes, lsn, reader->limit))
		return -ENOENT;
	err = get_bytes(reader, lsn, from_le32(((const struct journal_record *)bytes)->bytes), &bytes);
	if (err)
		return err;
	if (!journal_record_is_intact(bytes, reader->seed))
		return -ENOENT;
	*ret = bytes;
	return 0;
}

static lsn_t record_end(const struct journal_record *record)
{
	return from_le64(record->lsn) + round_up(from_le32(record->bytes), JOURNAL_ALIGN);
}

static void note_mark(struct reader *reader, const struct journal_record *record)
{
	le64 known;

	if (record->type != JOURNAL_MARK)
		return;
	memcpy(&known, record + 1, sizeof(known));
	reader->known_durable = max_of(reader->known_durable, from_le64(known));
}

/* The first pass.  @look (may be NULL) sees each body. */
static int find_end(struct reader *reader, lsn_t from, journal_look_fn look, void *ctx,
    lsn_t *ret_end)
{
	const struct journal_record *record;
	lsn_t lsn = from;
	int err;

	while ((err = get_record(reader, lsn, &record)) == 0) {
		note_mark(reader, record);
		if (look && record->type == JOURNAL_BATCH)
			look(ctx, record + 1, from_le32(record->bytes) - RECORD_HEADER_BYTES);
		lsn = record_end(record);
	}
	if (err != -ENOENT)
		return err;
	*ret_end = lsn;
	return 0;
}

/* Looks for MARKs beyond the end. */
static int scan_marks(struct reader *reader, lsn_t end)
{
	lsn_t lsn = round_down(end, BLOCK_BYTES) + BLOCK_BYTES;

	for (; lsn < reader->limit; lsn += BLOCK_BYTES) {
		const struct journal_record *record;
		const void *bytes;
		int err = get_bytes(reader, lsn, RECORD_HEADER_BYTES, &bytes);

		if (err)
			return err;
		record = bytes;
		if (record->type == JOURNAL_MARK && get_record(reader, lsn, &record) == 0)
			note_mark(reader, record);
	}
	return 0;
}

static int report_damage(const struct reader *reader, lsn_t end)
{
	log_error("journal: damaged at LSN %llu (byte %llu of the volume): the log was "
		  "durable up to LSN %llu",
	    (unsigned long long)end,
	    (unsigned long long)place_offset(reader->place, end),
	    (unsigned long long)reader->known_durable);
	return -EUCLEAN;
}

/* Shows the records of [@from, @end), all of which verified before. */
static int visit_records(struct reader *reader, lsn_t from, lsn_t end,
    journal_visit_fn visit, void *ctx, lsn_t *ret_end)
{
	const struct journal_record *record;
	lsn_t lsn, next;

	for (lsn = from; lsn < end; lsn = next) {
		int err = get_record(reader, lsn, &record);

		if (err) /* -ENOENT: the device does not read twice alike */
			return err == -ENOENT ? -EIO : err;
		next = record_end(record);
		if (record->type != JOURNAL_BATCH)
			continue;
		err = visit(ctx, lsn, next, reader->known_durable, record + 1,
		    from_le32(record->bytes) - RECORD_HEADER_BYTES);
		if (err < 0)
			return err;
		if (err == JOURNAL_STOP)
			break;
	}
	*ret_end = lsn;
	return 0;
}

/* ---- all of it ------------------------------------------------------------------ */

static int find_true_end(struct reader *reader, lsn_t from, journal_look_fn look, void *ctx,
    lsn_t *ret_end)
{
	int err = find_end(reader, from, look, ctx, ret_end);

	/* Nothing was ever written behind what the ring says. */
	if (!err && *ret_end < reader->ring_from)
		err = scan_marks(reader, *ret_end);
	if (!err && *ret_end < reader->known_durable)
		err = report_damage(reader, *ret_end);
	return err;
}

/* A ring that ends before @from says nothing about what follows.  How far it was filled
 * only the records in it tell. */
static int find_ring(struct reader *reader, lsn_t from, uint64_t open_id)
{
	int err = journal_ring_attach(reader->place->uuid, open_id, &reader->ring);
	lsn_t written;

	reader->ring_from = reader->limit;
	reader->ring_to = reader->limit;
	if (err)
		return err == -ENOENT ? 0 : err;
	written = atomic_load(&reader->ring.header->written);
	if (written >= reader->limit || from - min_of(written, from) >= reader->ring.size)
		return 0;
	reader->ring_from = written;
	reader->ring_to = min_of(written + reader->ring.size, reader->limit);
	log_info("journal: a ring in shared memory goes on from LSN %llu",
	    (unsigned long long)written);
	return 0;
}

static int open_reader(const struct journal_place *place, lsn_t from, uint64_t open_id,
    struct reader *ret)
{
	*ret = (struct reader){
	    .place = place,
	    .seed = uuid_seed(place->uuid),
	    .limit = round_down(from, BLOCK_BYTES) + place->bytes,
	    .known_durable = from,
	};
	if (!journal_place_is_sane(place) || !is_aligned(from, JOURNAL_ALIGN) || ret->limit < from)
		return -EINVAL;
	return find_ring(ret, from, open_id);
}

static void close_reader(struct reader *reader)
{
	if (reader->ahead.bytes)
		end_ahead(reader);
	free(reader->buffers[0]);
	free(reader->buffers[1]);
	journal_ring_release(&reader->ring);
}

/* [@from, @end) of the log, whole blocks but for the last, onto the device. */
static int write_back(struct reader *reader, lsn_t from, lsn_t end)
{
	int err = 0;

	while (from < end && !err) {
		uint64_t until_wrap = reader->place->bytes - from % reader->place->bytes;
		uint64_t bytes;
		uint8_t *at;

		err = fill_window(reader, from, BLOCK_BYTES);
		if (err)
			return err;
		at = reader->window + (from - reader->start);
		bytes = min_of(reader->start + reader->bytes - from, until_wrap);
		if (from + bytes > end) {
			bytes = round_up(end - from, BLOCK_BYTES);
			memset(at + (end - from), 0, bytes - (end - from));
		}
		err = device_write(reader->place->device, at, (uint32_t)bytes,
		    place_offset(reader->place, from));
		from += bytes;
	}
	return err ? err : device_flush(reader->place->device);
}

int journal_settle(const struct journal_place *place, const struct journal_extent *extent,
    uint64_t open_id)
{
	struct reader reader;
	int err = open_reader(place, extent->from, open_id, &reader);

	if (!err && reader.ring_from < extent->end)
		err = write_back(&reader, max_of(reader.ring_from, round_down(extent->from, BLOCK_BYTES)),
		    extent->end);
	close_reader(&reader);
	return err;
}

int journal_survey(const struct journal_place *place, lsn_t from, uint64_t open_id,
    journal_look_fn look, void *ctx, struct journal_extent *ret)
{
	struct reader reader;
	int err = open_reader(place, from, open_id, &reader);

	*ret = (struct journal_extent){.from = from};
	if (!err)
		err = find_true_end(&reader, from, look, ctx, &ret->end);
	ret->known_durable = reader.known_durable;
	close_reader(&reader);
	return err;
}

int journal_visit(const struct journal_place *place, const struct journal_extent *extent,
    uint64_t open_id, journal_visit_fn visit, void *ctx, lsn_t *ret_end)
{
	struct reader reader;
	int err = open_reader(place, extent->from, open_id, &reader);

	reader.known_durable = extent->known_durable;
	if (!err)
		err = visit_records(&reader, extent->from, extent->end, visit, ctx, ret_end);
	close_reader(&reader);
	return err;
}

int journal_read(const struct journal_place *place, lsn_t from, uint64_t open_id,
    journal_visit_fn visit, void *ctx, lsn_t *ret_end)
{
	struct journal_extent extent;
	int err = journal_survey(place, from, open_id, NULL, NULL, &extent);

	if (!err || err == -EUCLEAN)
		*ret_end = extent.end;
	if (err || !visit)
		return err;
	return journal_visit(place, &extent, open_id, visit, ctx, ret_end);
}

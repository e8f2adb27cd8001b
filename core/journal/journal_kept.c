/*
 * The log as it is read after a crash, kept in memory: read once, ahead of who looks at
 * it, and seen as often as need be.
 *
 *     start            filled         asked                        start + bytes
 *      | seen, will be  | on its way   | address space, no memory   |
 *
 * One mapping has place for all of it, so no record has parts in two places, and
 * what was seen stays where it is.  Memory comes with what is read.
 *
 * Locks: none; a reader is one thread's.
 */
#include "config.h"

#include "journal/journal_internal.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PIECE_BYTES (1024u * 1024)
#define PIECES_AHEAD 4u
#define READ_BYTES (512u * 1024)
#define PIECE_REQUESTS (PIECE_BYTES / READ_BYTES + 1) /* one more where the log wraps */

struct piece {
	struct device_request requests[PIECE_REQUESTS];
	struct device_batch batch;
	uint64_t bytes;
};

struct journal_kept {
	uint8_t *memory;
	lsn_t start;
	uint64_t mapped, bytes; /* bytes: that may be asked for */
	uint64_t filled, asked; /* bytes from the start; pieces between are on their way */
	uint64_t ended, begun;	/* pieces; the n-th is pieces[n % PIECES_AHEAD] */
	struct piece pieces[PIECES_AHEAD];
};

struct journal_kept *kept_create(lsn_t from, lsn_t end)
{
	struct journal_kept *kept;

	from = round_down(from, BLOCK_BYTES);
	end = round_down(end, BLOCK_BYTES);
	if (end <= from)
		return NULL;
	kept = calloc(1, sizeof(*kept));
	if (!kept)
		return NULL;
	kept->start = from;
	kept->mapped = kept->bytes = end - from;
	kept->memory = mmap(NULL, kept->bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (kept->memory == MAP_FAILED) {
		free(kept);
		return NULL;
	}
	/* A wish: a kernel without them does without. */
	madvise(kept->memory, kept->bytes, MADV_HUGEPAGE);
	return kept;
}

void kept_destroy(struct journal_kept *kept)
{
	if (!kept)
		return;
	munmap(kept->memory, kept->mapped);
	free(kept);
}

bool kept_holds(const struct journal_kept *kept, lsn_t lsn, uint32_t bytes)
{
	return kept && lsn >= kept->start && lsn + bytes <= kept->start + kept->bytes;
}

bool kept_has(const struct journal_kept *kept, const void *at)
{
	return kept && (const uint8_t *)at >= kept->memory &&
	       (const uint8_t *)at < kept->memory + kept->bytes;
}

static void begin_piece(struct journal_kept *kept, const struct journal_place *place)
{
	struct piece *piece = &kept->pieces[kept->begun++ % PIECES_AHEAD];
	uint64_t left = min_of((uint64_t)PIECE_BYTES, kept->bytes - kept->asked);
	uint32_t count = 0;

	piece->bytes = left;
	while (left) {
		lsn_t lsn = kept->start + kept->asked;
		uint64_t until_wrap = place->bytes - lsn % place->bytes;
		uint64_t run = min_of(left, until_wrap);

		run = min_of(run, (uint64_t)READ_BYTES);
		piece->requests[count++] = (struct device_request){
		    .op = DEVICE_READ,
		    .slot = DEVICE_NO_SLOT,
		    .data = kept->memory + kept->asked,
		    .bytes = (uint32_t)run,
		    .offset = place_offset(place, lsn),
		};
		kept->asked += run;
		left -= run;
	}
	device_batch_init(&piece->batch);
	device_submit(place->device, &piece->batch, piece->requests, count);
}

static int end_piece(struct journal_kept *kept, const struct journal_place *place)
{
	struct piece *piece = &kept->pieces[kept->ended++ % PIECES_AHEAD];
	int err = device_wait(place->device, &piece->batch);

	kept->filled += piece->bytes;
	return err;
}

int kept_get(struct journal_kept *kept, const struct journal_place *place, lsn_t lsn,
    uint32_t bytes, const void **ret)
{
	while (kept->filled < lsn + bytes - kept->start) {
		int err;

		while (kept->begun - kept->ended < PIECES_AHEAD && kept->asked < kept->bytes)
			begin_piece(kept, place);
		err = end_piece(kept, place);
		if (err)
			return err;
	}
	*ret = kept->memory + (lsn - kept->start);
	return 0;
}

void kept_settle(struct journal_kept *kept, const struct journal_place *place)
{
	uint64_t filled = kept->filled;
	bool is_good = true;

	while (kept->begun > kept->ended) {
		is_good = end_piece(kept, place) == 0 && is_good;
		if (is_good)
			filled = kept->filled;
	}
	kept->filled = kept->asked = kept->bytes = filled;
}

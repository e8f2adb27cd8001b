/*
 * The record codec, and the log of a new volume.
 *
 *    LSN, 8-byte aligned
 *    | checksum | bytes | lsn | type, zeros | body ... | zeros to 8 |
 *    0          4       8     16            24         bytes
 *
 * A record verifies only where and as it was written:
 *
 *  1. its LSN stands in the header and in the checksum's seed, so bytes of an
 *     earlier lap of the log never verify;
 *  2. the seed also holds the volume's UUID, so neither do those of another volume
 *     that lay here before;
 *  3. the checksum covers header and body, so a torn record does not verify.
 *
 * Nothing is taken from a header before journal_record_is_plausible() has bounded
 * it: these are bytes from disk.
 */
#include "config.h"

#include "journal/journal_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/cleanup.h"

#define ZERO_CHUNK_BYTES (1024u * 1024)
#define ZERO_REQUESTS 8u

_Static_assert(RECORD_HEADER_BYTES % JOURNAL_ALIGN == 0, "bodies are aligned");
_Static_assert(MARK_BYTES + PAD_BYTES_MAX < 2 * BLOCK_BYTES, "overhead of a flush");

bool journal_place_is_sane(const struct journal_place *place)
{
	uint64_t device = device_bytes(place->device);

	return is_aligned(place->offset, BLOCK_BYTES) &&
	       is_aligned(place->bytes, BLOCK_BYTES) && place->bytes >= LOG_BYTES_MIN &&
	       place->offset <= device && place->bytes <= device - place->offset;
}

static uint32_t record_checksum(const struct journal_record *record, uint64_t seed)
{
	const uint8_t *bytes = (const uint8_t *)record;

	return checksum32(bytes + sizeof(record->checksum),
	    from_le32(record->bytes) - sizeof(record->checksum),
	    seed ^ from_le64(record->lsn));
}

void journal_record_seal(struct journal_record *record, uint64_t seed, lsn_t lsn,
    enum journal_type type, uint32_t body_bytes)
{
	uint32_t bytes = RECORD_HEADER_BYTES + body_bytes;

	memset(record, 0, sizeof(*record));
	memset((uint8_t *)record + bytes, 0, record_span(body_bytes) - bytes);
	record->bytes = to_le32(bytes);
	record->lsn = to_le64(lsn);
	record->type = (uint8_t)type;
	record->checksum = to_le32(record_checksum(record, seed));
}

static bool length_suits_type(uint8_t type, uint32_t bytes, lsn_t end)
{
	switch (type) {
	case JOURNAL_PAD:
		return bytes <= PAD_BYTES_MAX && is_aligned(end, BLOCK_BYTES);
	case JOURNAL_MARK:
		return bytes == MARK_BYTES;
	case JOURNAL_BATCH:
		return bytes <= JOURNAL_RECORD_MAX;
	default:
		return false;
	}
}

bool journal_record_is_plausible(const struct journal_record *record, lsn_t lsn, lsn_t limit)
{
	uint32_t bytes = from_le32(record->bytes);
	uint64_t span = round_up((uint64_t)bytes, JOURNAL_ALIGN);

	if (from_le64(record->lsn) != lsn || bytes < RECORD_HEADER_BYTES)
		return false;
	return span <= limit - lsn && length_suits_type(record->type, bytes, lsn + span);
}

bool journal_record_is_intact(const struct journal_record *record, uint64_t seed)
{
	return from_le32(record->checksum) == record_checksum(record, seed);
}

/* Writes zeros to [@offset, @end), some requests at a time. */
static int write_zeros(struct device *device, uint64_t offset, uint64_t end, void *zeros)
{
	struct device_request requests[ZERO_REQUESTS];
	struct device_batch batch;
	int err = 0;

	device_batch_init(&batch);
	while (offset < end && !err) {
		uint32_t count = 0;

		for (; count < ZERO_REQUESTS && offset < end; count++) {
			uint32_t bytes = (uint32_t)min_of(end - offset,
			    (uint64_t)ZERO_CHUNK_BYTES);

			requests[count] = (struct device_request){
			    .op = DEVICE_WRITE,
			    .slot = DEVICE_NO_SLOT,
			    .data = zeros,
			    .bytes = bytes,
			    .offset = offset,
			};
			offset += bytes;
		}
		device_submit(device, &batch, requests, count);
		err = device_wait(device, &batch);
	}
	return err;
}

int journal_format(const struct journal_place *place)
{
	cleanup_free void *zeros = NULL;
	int err;

	if (!journal_place_is_sane(place))
		return -EINVAL;
	zeros = aligned_alloc(DEVICE_ALIGN, ZERO_CHUNK_BYTES);
	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, ZERO_CHUNK_BYTES);
	err = write_zeros(place->device, place->offset, place->offset + place->bytes, zeros);
	return err ? err : device_flush(place->device);
}

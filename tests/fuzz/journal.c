/*
 * A store whose log was written by somebody else.
 *
 * Input: calls, made on a store that then goes without closing, so that its log has them;
 * a byte 0xff; then changes to the log's records and records of any bytes behind its end.
 * Each changed record gets a good checksum unless the change says otherwise.  Opening
 * recovers what it can, or refuses; what it opened is whole and can be written to.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "format/format.h"
#include "journal/journal_internal.h"
#include "store/store.h"

#define DISK_BYTES (24ull << 20)
#define CALLS_MAX 24
#define CALLS_AFTER 6 /* the first ones again */
#define RECORDS_MAX 256
#define BODY_MAX 4096

static struct fuzz_disk disk;

struct log {
	uint64_t seed;
	uint8_t *memory; /* of the journal */
	uint64_t bytes;
	lsn_t start, end; /* of what there is */
	uint32_t count;
	lsn_t records[RECORDS_MAX];
};

static struct journal_record *record_at(const struct log *log, lsn_t lsn)
{
	return (void *)(log->memory + lsn % log->bytes);
}

/* Records do not wrap around: the log is far longer than what is written. */
static void find_records(struct log *log)
{
	const struct superblock *superblock = (const void *)disk.memory;

	*log = (struct log){
	    .seed = uuid_seed(superblock->uuid),
	    .memory = disk.memory + from_le64(superblock->journal_first_frame) * FRAME_BYTES,
	    .bytes = from_le64(superblock->journal_frames) * FRAME_BYTES,
	    .start = from_le64(superblock->checkpoint_lsn),
	};
	for (log->end = log->start; log->count < RECORDS_MAX;) {
		const struct journal_record *record = record_at(log, log->end);
		lsn_t limit = log->end + log->bytes - log->end % log->bytes;

		if (!journal_record_is_plausible(record, log->end, limit) ||
		    !journal_record_is_intact(record, log->seed))
			break;
		log->records[log->count++] = log->end;
		log->end += round_up(from_le32(record->bytes), JOURNAL_ALIGN);
	}
}

static void seal(const struct log *log, lsn_t lsn, uint8_t type, uint32_t body_bytes)
{
	journal_record_seal(record_at(log, lsn), log->seed, lsn, (enum journal_type)type, body_bytes);
}

/* Which record, which byte of its body, what; then the record is whole again. */
static void change(const struct log *log, struct fuzz_input *input, uint8_t kind)
{
	uint8_t which = fuzz_byte(input);
	uint32_t at = fuzz_number(input, 2);
	uint8_t value = fuzz_byte(input);
	struct journal_record *record;
	uint32_t body_bytes;
	lsn_t lsn;

	if (!log->count)
		return;
	lsn = log->records[which % log->count];
	record = record_at(log, lsn);
	/* Its length may have been changed before. */
	body_bytes = from_le32(record->bytes);
	if (body_bytes < RECORD_HEADER_BYTES || body_bytes > log->end - lsn)
		body_bytes = RECORD_HEADER_BYTES;
	body_bytes -= RECORD_HEADER_BYTES;
	fuzz_disk_touch(&disk, record, RECORD_HEADER_BYTES + body_bytes);
	if (kind & 4) {
		((uint8_t *)record)[at % (RECORD_HEADER_BYTES + body_bytes)] = value;
	} else {
		if (body_bytes)
			((uint8_t *)record)[RECORD_HEADER_BYTES + at % body_bytes] = value;
		seal(log, lsn, record->type, body_bytes);
	}
}

/* One more record, of any type and length. */
static void append(struct log *log, struct fuzz_input *input, uint8_t kind)
{
	uint8_t type = fuzz_byte(input);
	uint32_t wanted = fuzz_number(input, 2) % BODY_MAX;
	uint32_t body_bytes = kind & 4 ? wanted : 0;
	size_t bytes;
	const uint8_t *from = fuzz_bytes(input, wanted, &bytes);
	lsn_t next = log->end + round_up(RECORD_HEADER_BYTES + max_of((uint64_t)body_bytes, bytes), JOURNAL_ALIGN);

	if (next - log->start >= log->bytes / 2 || next % log->bytes < log->end % log->bytes)
		return;
	fuzz_disk_touch(&disk, record_at(log, log->end), next - log->end);
	memcpy((uint8_t *)record_at(log, log->end) + RECORD_HEADER_BYTES, from, bytes);
	seal(log, log->end, type % 5, (uint32_t)max_of((size_t)body_bytes, bytes));
	log->end = next;
}

static void change_log(struct fuzz_input *input)
{
	struct log log;

	find_records(&log);
	while (input->left) {
		uint8_t kind = fuzz_byte(input);

		if (kind % 4 == 3)
			append(&log, input, kind);
		else
			change(&log, input, kind);
	}
}

static void make_disk(void)
{
	fuzz_store_format(&disk, DISK_BYTES);
	fuzz_disk_freeze(&disk);
}

static void reopen(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct store *store = fuzz_store_open(&disk);

	if (!store)
		return;
	fuzz_store_read(store);
	for (unsigned i = 0; i < CALLS_AFTER && input.left; i++)
		fuzz_store_call(store, &input);
	/* What opened once opens again. */
	if (store_close(store))
		return;
	store = fuzz_store_open(&disk);
	FUZZ_CHECK(store);
	fuzz_store_read(store);
	store_abandon(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct store *store;

	if (disk.frozen)
		fuzz_disk_renew(&disk);
	else
		make_disk();
	store = fuzz_store_open(&disk);
	FUZZ_CHECK(store);
	for (unsigned i = 0; i < CALLS_MAX && input.left && *input.at != 0xff; i++)
		fuzz_store_call(store, &input);
	fuzz_byte(&input);
	(void)store_sync(store, store_end_lsn(store), JOURNAL_SYNC);
	store_abandon(store);
	change_log(&input);
	reopen(data, size);
	return 0;
}

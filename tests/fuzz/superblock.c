/*
 * A store whose superblocks were written by somebody else.
 *
 * Input: a byte with flags, then changes of three bytes and more: which of the two copies
 * and how many bytes, where, what.  Changed copies get a good checksum unless the flags say
 * otherwise, so that the fields themselves are what has to be refused.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "format/format.h"
#include "store/store.h"

#define DISK_BYTES (32ull << 20)

#define LEAVE_CHECKSUM 1u
#define OPEN_ONLY 2u

static struct fuzz_disk disk;

static struct superblock *copy_of(unsigned which)
{
	return (void *)(disk.memory + (which ? SUPERBLOCK_B_OFFSET : SUPERBLOCK_A_OFFSET));
}

/* A store that was not closed: opening it goes all the way. */
static void make_disk(void)
{
	static const uint8_t seed[] = {5, 99, 1, 3, 8, 8, 4, 4, 4, 8, 0, 7, 12, 3, 5, 1, 2};
	struct fuzz_input input = {seed, sizeof(seed)};
	struct store *store;

	fuzz_store_format(&disk, DISK_BYTES);
	store = fuzz_store_open(&disk);
	FUZZ_CHECK(store);
	while (input.left)
		fuzz_store_call(store, &input);
	FUZZ_CHECK(store_sync(store, store_end_lsn(store), JOURNAL_SYNC) == 0);
	store_abandon(store);
	fuzz_disk_freeze(&disk);
}

static void change(struct fuzz_input *input)
{
	uint8_t head = fuzz_byte(input);
	size_t at = fuzz_byte(input), bytes;
	const uint8_t *from = fuzz_bytes(input, 1 + head % 8, &bytes);

	/* What lies behind the fields is ignored. */
	if (at + bytes <= offsetof(struct superblock, reserved))
		memcpy((uint8_t *)copy_of(head >> 7) + at, from, bytes);
	if (head & 64)
		*copy_of(!(head >> 7)) = *copy_of(head >> 7);
}

static void use(struct store *store)
{
	static const uint8_t calls[] = {1, 3, 4, 3, 2, 1, 7, 4, 9, 5, 3, 8, 6, 12, 200, 3};
	struct fuzz_input input = {calls, sizeof(calls)};

	fuzz_store_read(store);
	while (input.left)
		fuzz_store_call(store, &input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	enum superblock_verdict verdicts[2];
	struct store *store;
	uint8_t flags;

	if (disk.frozen)
		fuzz_disk_renew(&disk);
	else
		make_disk();
	flags = fuzz_byte(&input);
	while (input.left)
		change(&input);
	for (unsigned i = 0; i < 2; i++) {
		fuzz_disk_touch(&disk, copy_of(i), BLOCK_BYTES);
		if (!(flags & LEAVE_CHECKSUM))
			superblock_seal(copy_of(i));
		verdicts[i] = superblock_verify(copy_of(i), DISK_BYTES);
		FUZZ_CHECK(!superblock_verdict_text(verdicts[i]) == (verdicts[i] == SUPERBLOCK_GOOD));
	}
	store = fuzz_store_open(&disk);
	FUZZ_CHECK(!store || verdicts[0] == SUPERBLOCK_GOOD || verdicts[1] == SUPERBLOCK_GOOD);
	if (!store)
		return 0;
	if (!(flags & OPEN_ONLY))
		use(store);
	(void)store_close(store);
	store = fuzz_store_open(&disk);
	if (store)
		store_abandon(store);
	return 0;
}

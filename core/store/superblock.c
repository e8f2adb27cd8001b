/*
 * The two superblocks.
 *
 * They are written one after the other, each flushed before the next begins, with the
 * same content.  So at any instant one of them is whole, and either alone is enough:
 * what an older copy names is released only when both newer ones are durable.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"

static const uint64_t copy_offsets[2] = {SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET};
static const char copy_names[2] = {'A', 'B'};

static bool is_usable(enum superblock_verdict verdict, bool is_read_only)
{
	return verdict == SUPERBLOCK_GOOD ||
	       (verdict == SUPERBLOCK_UNKNOWN_RO_COMPAT && is_read_only);
}

/* What to answer when neither copy is usable. */
static int refusal(const enum superblock_verdict verdicts[2])
{
	for (int i = 0; i < 2; i++)
		if (verdicts[i] == SUPERBLOCK_BAD_VERSION || verdicts[i] == SUPERBLOCK_UNKNOWN_INCOMPAT)
			return -EPROTONOSUPPORT;
	for (int i = 0; i < 2; i++)
		if (verdicts[i] == SUPERBLOCK_UNKNOWN_RO_COMPAT)
			return -EROFS;
	if (verdicts[0] == SUPERBLOCK_NOT_OURS && verdicts[1] == SUPERBLOCK_NOT_OURS)
		return -EMEDIUMTYPE;
	return -EUCLEAN;
}

int superblock_load(struct device *device, bool is_read_only, struct superblock *ret)
{
	cleanup_free struct superblock *copies = aligned_alloc(BLOCK_BYTES, 2 * BLOCK_BYTES);
	enum superblock_verdict verdicts[2];
	int best = -1;

	if (!copies)
		return -ENOMEM;
	if (device_bytes(device) < SUPERBLOCK_B_OFFSET + BLOCK_BYTES)
		return -EMEDIUMTYPE;
	for (int i = 0; i < 2; i++) {
		int err = device_read(device, &copies[i], BLOCK_BYTES, copy_offsets[i]);

		if (err) {
			log_error("superblock %c: read failed: %s", copy_names[i], strerror(-err));
			verdicts[i] = SUPERBLOCK_DAMAGED;
			continue;
		}
		verdicts[i] = superblock_verify(&copies[i], device_bytes(device));
		if (is_usable(verdicts[i], is_read_only) &&
		    (best < 0 || from_le64(copies[i].generation) > from_le64(copies[best].generation)))
			best = i;
	}
	if (verdicts[0] == SUPERBLOCK_NOT_OURS && verdicts[1] == SUPERBLOCK_NOT_OURS)
		return -EMEDIUMTYPE;
	for (int i = 0; i < 2; i++)
		if (verdicts[i] != SUPERBLOCK_GOOD)
			log_warning("superblock %c: %s%s", copy_names[i],
			    superblock_verdict_text(verdicts[i]),
			    best >= 0 && i != best ? "; using the other copy" : "");
	if (best < 0)
		return refusal(verdicts);
	*ret = copies[best];
	return 0;
}

int superblock_store(struct device *device, struct superblock *superblock)
{
	cleanup_free struct superblock *copy = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	struct timespec now;

	if (!copy)
		return -ENOMEM;
	clock_gettime(CLOCK_REALTIME, &now);
	superblock->generation = to_le64(from_le64(superblock->generation) + 1);
	superblock->written_ns = to_le64((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
	superblock_seal(superblock);
	*copy = *superblock;
	for (int i = 0; i < 2; i++) {
		int err = device_write(device, copy, BLOCK_BYTES, copy_offsets[i]);

		if (!err)
			err = device_flush(device);
		if (err)
			return err;
	}
	return 0;
}

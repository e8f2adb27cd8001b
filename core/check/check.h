/*
 * The consistency walk: every structure of a volume, from the superblock to the
 * checksums of file data, compared with every other that speaks of it.  Used by
 * fsck.holtfs and by every crash and fault test.
 *
 * The volume is opened read-only: the log is replayed in memory, nothing is written.
 *
 * What is checked: both superblocks; map pages; every tree frame (checksums, nodes
 * within the frame, key order, crossings whose child exists and is named once);
 * space map against manifest, map pages and file extents (no block used twice, none
 * lost); every inode, entry and extent (types, sizes, link counts, parents exist,
 * no extent beyond the recorded size); optionally the checksums of all file data.
 */
#ifndef HOLTFS_CHECK_CHECK_H
#define HOLTFS_CHECK_CHECK_H

#include <stdbool.h>
#include <stdint.h>

struct device;

enum check_severity {
	CHECK_DAMAGE, /* something is lost or wrong */
	CHECK_LEAK,   /* space in use that nothing names */
	CHECK_NOTE,   /* worth knowing: recovered from the log, one superblock bad */
};

/* @what names object and place in one line. */
typedef void (*check_report_fn)(void *ctx, enum check_severity severity, const char *what);

struct check_options {
	bool with_data; /* read all file data and verify it */
	/* The keys are not the file layer's: the store's own structures only. */
	bool is_store_only;
	uint64_t cache_bytes;
	check_report_fn report;
	void *ctx;
};

struct check_totals {
	uint64_t files, directories, symlinks, others, orphans;
	uint64_t data_bytes, used_blocks, tree_frames, keys, extents;
	uint64_t damages, leaks;
	double average_fill; /* of tree frames, 0..1 */
};

/*
 * Takes the device over.  0: the walk ran to its end (see totals for what it found).
 * Negative: it could not (-EMEDIUMTYPE, -EPROTONOSUPPORT, -EIO, -ENOMEM; -EUCLEAN:
 * both superblocks or a map page are damaged, as reported); totals tell how far it
 * came.
 *
 * A finding that follows from another is not reported again: what a damaged frame or
 * record may have held is not missed elsewhere.
 */
int check_volume(struct device *device, const struct check_options *options, struct check_totals *ret);

#endif

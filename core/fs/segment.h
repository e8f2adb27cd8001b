/*
 * A segment: a leased pool slot being filled with new file data.  Private to
 * segment.c and segment_write.c; see segment.c for the whole.
 */
#ifndef HOLTFS_FS_SEGMENT_H
#define HOLTFS_FS_SEGMENT_H

#include "fs/fs_internal.h"

#define SEGMENT_BLOCKS SPAN_BLOCKS
#define SEGMENT_REQUESTS 16u

/* Guarded by fs->segment_mutex, but for what is said to be otherwise. */
struct segment {
	struct segment *next;
	struct inode *owner; /* the file whose stream this is; NULL: shared */
	uint32_t slot;	     /* set at init */

	/* positions: first <= written <= sealed <= filled <= allocated */
	uint32_t first, written, sealed, filled, allocated;
	uint32_t fillers; /* threads copying into [sealed, filled) */
	uint32_t live;	  /* positions that a span's pending entry names */
	bool is_closed;	  /* takes no more */
	bool is_sealing;  /* a thread is about to submit */
	bool is_submitted;
	int error; /* of a write */

	uint64_t block[SEGMENT_BLOCKS]; /* on the volume; fixed once allocated */
	uint32_t checksum[SEGMENT_BLOCKS]; /* below `written` */
	uint64_t dead[2];		   /* filled, and not wanted any more */

	/* the thread that set is_sealing, then the one that waits */
	struct device_batch io;
	struct device_request requests[SEGMENT_REQUESTS];
	uint32_t submitted; /* positions below are with the device or written */
};

uint8_t *segment_bytes(struct fs *fs, const struct segment *segment, uint32_t position);

/* Submits what is sealed, as far as there are requests.  Called by the thread that
 * set is_sealing, without the mutex. */
void segment_submit(struct fs *fs, struct segment *segment);

/* Takes the segment out of the list if nothing is left to do with it; the caller
 * then ends it without the mutex. */
bool segment_is_over_locked(struct fs *fs, struct segment *segment);
void segment_end(struct fs *fs, struct segment *segment);

#endif

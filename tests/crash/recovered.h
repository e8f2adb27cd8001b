/*
 * What a recovered file system holds, and whether the history allows it.
 */
#ifndef HOLTFS_TESTS_RECOVERED_H
#define HOLTFS_TESTS_RECOVERED_H

#include "fs/fs.h"
#include "tests/crash/history.h"

struct recovered {
	struct found {
		bool is_there;
		uint64_t parent; /* inode number */
		char name[HISTORY_NAME];
		struct fs_attr attr;
		uint8_t *data; /* of files and symlinks */
	} nodes[HISTORY_NODES]; /* as in the history */
	uint32_t count;
	char why[400]; /* what did not fit */
};

/* Reads all names, attributes and data.  False: something is there that never was, or
 * cannot be read. */
bool recovered_read(struct recovered *recovered, const struct history *history, struct fs *fs);
void recovered_free(struct recovered *recovered);

/* Could this be what is left when all of requests 1..k were kept, and of the others no
 * name and no attribute? */
bool recovered_fits(struct recovered *recovered, const struct history *history, uint32_t k);

#endif

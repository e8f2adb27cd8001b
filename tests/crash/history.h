/*
 * What a file system should be after each of many requests: the other side of a crash
 * test.  Every node (file, directory, symlink) is a list of versions, one for each
 * request that changed it; so the state after request k is, of every node, the last
 * version at or before k.
 *
 *	request      1        2        3        4        5
 *	node a     create   write             fsync
 *	node b                       mkdir             rename
 *
 * File content is a vector of blocks that versions share; a block is never changed
 * once it is in a version.  A NULL block is zeros.
 */
#ifndef HOLTFS_TESTS_HISTORY_H
#define HOLTFS_TESTS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define HISTORY_NAME 64
#define HISTORY_NODES 2048
#define HISTORY_REQUESTS 20000
#define HISTORY_WHAT 120
#define HISTORY_BLOCK 4096u
#define HISTORY_CLAIMS 512 /* blocks of a file that may be allocated before */

struct version {
	uint32_t request;
	bool is_linked;
	/* Files: the request made the size smaller; put the inode's record into the
	 * log; recorded all data written so far. */
	bool is_shrink, is_put, is_recorded;
	int parent;
	char name[HISTORY_NAME];
	uint32_t mode, uid, gid;
	uint32_t entries, subdirectories;
	struct timespec begun, mtime, ctime;
	uint64_t size;
	uint8_t **blocks; /* div_up(size) of them */
	bool *claims;	  /* HISTORY_CLAIMS of them: there is space for the block; NULL: none */
};

struct node {
	uint64_t ino;
	uint64_t lookups; /* of the file system under test; 0: not known to us */
	uint32_t type;	  /* S_IFMT */
	bool is_dirty;	  /* written to since all its data was recorded */
	bool is_inline;	  /* never held more than an inode record does */
	bool is_gone;	  /* unlinked and forgotten */
	char *target;	  /* symlinks */
	struct version *versions;
	uint32_t count, room;
};

struct request {
	uint32_t events_before, events_after; /* of the device */
	bool is_sync; /* answered: everything up to it is durable */
	char what[HISTORY_WHAT];
};

struct history {
	struct node nodes[HISTORY_NODES]; /* 0 is the root */
	uint32_t node_count;
	struct request requests[HISTORY_REQUESTS];
	uint32_t request; /* the present one; 0: before the first */
	struct timespec begun;
	void **memory;
	uint32_t memory_count, memory_room;
};

struct history *history_create(void);
void history_destroy(struct history *history);

/* The node after request @k; NULL: it did not exist yet. */
const struct version *history_at(const struct history *history, int node, uint32_t k);

/* Its newest version; and that as one of the present request, to be changed. */
struct version *history_now(struct history *history, int node);
struct version *history_change(struct history *history, int node);

/* A linked node, entry of @parent, whose counts change. */
int history_add(struct history *history, int parent, const char *name, uint32_t mode, const char *target);
void history_unlink(struct history *history, int node);
void history_move(struct history *history, int node, int parent, const char *name);

int history_find(struct history *history, int parent, const char *name); /* or -1 */
bool history_is_below(struct history *history, int node, int above);

void history_resize(struct history *history, int node, uint64_t size);
void history_write(struct history *history, int node, uint64_t offset, const uint8_t *data, uint64_t bytes);

/* Zeros in place of what is there, up to the end of the file. */
void history_zero(struct history *history, int node, uint64_t offset, uint64_t bytes);

/* There is space for these blocks, or not any more. */
void history_claim(struct history *history, int node, uint64_t first, uint64_t end, bool has_space);

/* The last requests, on standard error. */
void history_print(const struct history *history, uint32_t first, uint32_t last);

#endif

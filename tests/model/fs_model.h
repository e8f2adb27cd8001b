/*
 * A file system in plain memory: what core/fs is compared with.  Operations answer
 * what the system calls answer; nodes live until nobody knows them.
 */
#ifndef HOLTFS_TESTS_FS_MODEL_H
#define HOLTFS_TESTS_FS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_NODES 400
#define MODEL_NAME 256

struct model_node {
	bool is_used;
	bool is_linked;
	uint32_t type; /* S_IFMT */
	uint32_t mode;
	int parent;
	char name[MODEL_NAME];
	uint8_t *data; /* files, symlinks */
	size_t size, capacity;
	int entries, subdirectories;
	uint64_t ino; /* core/fs's */
	uint64_t lookups;
};

struct model {
	struct model_node nodes[MODEL_NODES]; /* 0 is the root */
};

void model_init(struct model *m);
void model_fini(struct model *m);
void model_copy(struct model *to, const struct model *from);

int model_find(const struct model *m, int dir, const char *name); /* node, or -1 */

/* The node, or -errno. -ENFILE: the model is full. */
int model_create(struct model *m, int dir, const char *name, uint32_t mode, const char *target);
int model_unlink(struct model *m, int dir, const char *name);
int model_rmdir(struct model *m, int dir, const char *name);
int model_rename(struct model *m, int from, const char *name, int to, const char *new_name,
    bool no_replace);
void model_resize(struct model *m, int node, size_t size);
void model_write(struct model *m, int node, size_t offset, const void *data, size_t bytes);
void model_forget(struct model *m, int node); /* all look-ups */

#endif

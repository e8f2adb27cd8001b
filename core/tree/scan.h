/* Scanning: shared by the files of that name. */
#ifndef HOLTFS_TREE_SCAN_H
#define HOLTFS_TREE_SCAN_H

#include <errno.h>

#include "tree/entries.h"
#include "tree/tree.h"

/* The walk ends here: the run is as long as it gets. */
#define SCAN_STOP 1

/* Longer paths come from damage: every level adds a byte, every move two keys. */
#define PATH_MAX_BYTES (8u << 20)

/* More than this is not in a frame, but walked twice. */
#define FRAME_NODES_MAX (FRAME_BYTES / NODE_UNIT)

int buffer_reserve(struct scan_buffer *buffer, uint32_t bytes);

static inline struct tree_stop *scan_stop(struct tree_scan *scan)
{
	return &scan->stops[scan->stop_count - 1];
}

static inline struct tree_level *scan_level(struct tree_scan *scan)
{
	return &scan->levels[scan->level_count - 1];
}

/* A level's next entry, if there is one. */
static inline __attribute__((always_inline)) bool scan_next_entry(const void *node,
    struct tree_level *level, node_ref *ret_ref, uint8_t *ret_byte)
{
	unsigned place;

	while (!level->mask) {
		if (level->word == ENTRY_WORDS - 1)
			return false;
		level->mask = entry_word(node, level->type, ++level->word);
	}
	place = (unsigned)__builtin_ctzll(level->mask);
	level->mask &= level->mask - 1;
	if (level->type <= NODE_16) {
		*ret_byte = sorted_byte(node, place);
		*ret_ref = sorted_ref(node, level->type, place);
	} else {
		*ret_byte = (uint8_t)(64 * level->word + place);
		*ret_ref = indexed_ref(node, level->type, *ret_byte);
	}
	return true;
}

/* scan_leaves.c: takes the leaves of the top level, up to an entry that is not a plain leaf or
 * would not fit: @ret_ref, under @ret_byte. */
enum scan_taken { TAKEN_ALL, TAKEN_FULL, TAKEN_CHILD };
enum scan_taken scan_take_leaves(struct tree_scan *scan, node_ref *ret_ref, uint8_t *ret_byte);

/* And likewise the common prefixes of what lies below inner nodes, up to an entry that is no
 * such node. */
enum scan_taken scan_take_groups(struct tree_scan *scan, node_ref *ret_ref, uint8_t *ret_byte);

/* scan_frames.c: from frame to frame.  0, SCAN_STOP, -ESTALE, or an error. */
void scan_begin(struct tree_scan *scan);
bool scan_resume(struct tree_scan *scan);
int scan_hop(struct tree_scan *scan, struct tree_need *need);
int scan_leave(struct tree_scan *scan);
int scan_commit(struct tree_scan *scan);
void scan_let_go(struct tree_scan *scan);

/* scan_probe.c: is there certainly a key below the node?  Else the walk has to look.  If
 * there are no empty frames while the node's frame does not change, then there is. */
bool scan_has_key(struct tree_scan *scan, node_ref ref);

static inline bool scan_has_empty_frames(const struct tree_scan *scan)
{
	return atomic_load_explicit(scan->tree->empty_frames, memory_order_acquire) != 0;
}

/* scan_seek.c: down to the key sought, in the present frame. */
int scan_seek_down(struct tree_scan *scan, node_ref ref);

/* scan.c */
int scan_enter(struct tree_scan *scan, node_ref ref, uint32_t start);
int scan_take_leaf(struct tree_scan *scan, node_ref ref, uint32_t path_bytes);
int scan_push(struct tree_scan *scan, const struct tree_level *level);

#endif

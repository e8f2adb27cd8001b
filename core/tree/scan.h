/* Scanning: shared by scan.c, scan_frames.c and scan_seek.c. */
#ifndef HOLTFS_TREE_SCAN_H
#define HOLTFS_TREE_SCAN_H

#include <errno.h>

#include "tree/entries.h"
#include "tree/tree.h"

/* The walk ends here: the run is as long as it gets. */
#define SCAN_STOP 1

/* Longer paths come from damage: every level adds a byte, every move two keys. */
#define PATH_MAX_BYTES (8u << 20)

/* More levels than a frame has nodes come from damage. */
#define FRAME_LEVELS_MAX (FRAME_BYTES / 16)

int buffer_reserve(struct scan_buffer *buffer, uint32_t bytes);

static inline struct tree_stop *scan_stop(struct tree_scan *scan)
{
	return &scan->stops[scan->stop_count - 1];
}

static inline struct tree_level *scan_level(struct tree_scan *scan)
{
	return &scan->levels[scan->level_count - 1];
}

/* scan_frames.c: from frame to frame.  0, SCAN_STOP, -ESTALE, or an error. */
void scan_begin(struct tree_scan *scan);
bool scan_resume(struct tree_scan *scan);
int scan_hop(struct tree_scan *scan, struct tree_need *need);
int scan_leave(struct tree_scan *scan);
int scan_commit(struct tree_scan *scan);
void scan_let_go(struct tree_scan *scan);

/* scan_probe.c: is there certainly a key below the node?  Else the walk has to look. */
bool scan_has_key(struct tree_scan *scan, node_ref ref);

/* scan_seek.c: down to the key sought, in the present frame. */
int scan_seek_down(struct tree_scan *scan, node_ref ref);

/* scan.c */
int scan_enter(struct tree_scan *scan, node_ref ref, uint32_t start);
int scan_take_leaf(struct tree_scan *scan, node_ref ref, uint32_t path_bytes);
int scan_push(struct tree_scan *scan, const struct tree_level *level);

#endif

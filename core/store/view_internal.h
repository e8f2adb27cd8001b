/* Images kept for views; shared by view.c and spill.c. */
#ifndef HOLTFS_STORE_VIEW_INTERNAL_H
#define HOLTFS_STORE_VIEW_INTERNAL_H

#include "store/store_internal.h"

/* Ids of retained images: the frame table's numbers that no tree frame has. */
#define ID_FIRST ((uint64_t)MAP_ENTRIES_MAX)
#define ID_COUNT ((1u << 24) - (uint32_t)MAP_ENTRIES_MAX)

/* Of the table. */
#define BUCKETS 4096u

enum place_kind { PLACE_NONE, PLACE_MANIFEST, PLACE_OWN };

struct retained {
	uint64_t frame_id, birth, ended; /* an image of epochs birth..ended - 1 */
	uint64_t id;
	enum place_kind kind;
	struct manifest_place place;
	bool is_checkpoints; /* the checkpoint under way owns the slot as well */
	bool is_counted;     /* in dirty_count */
	bool is_kept;	     /* from the checkpoint under way */
	bool is_dead;
	bool is_busy; /* being spilled, or buried */
	struct retained *next;	    /* in its bucket */
	struct retained *next_dead;
};

/* views.mutex held. */
struct retained *views_by_id_locked(struct views *views, uint64_t id);

/* Takes dead images out of the pool, and gives back their places; nothing is held. */
void views_bury(struct store *store);

#endif

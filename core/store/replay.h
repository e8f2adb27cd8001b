/* Applying chunks of the log (replay.c), for recover.c. */
#ifndef HOLTFS_STORE_REPLAY_H
#define HOLTFS_STORE_REPLAY_H

#include "store/chunk.h"

struct replay {
	struct store *store;
	struct store_batch *group;  /* to apply chunks with */
	struct store_batch *record; /* to apply a record by itself */
	struct tree_edit *edits;
};

/* @replay: zeros.  Fini also after an error. */
int replay_init(struct replay *replay, struct store *store);
void replay_fini(struct replay *replay);

/* Applies a sorted chunk, and counts its records.  Errors are logged. */
int replay_chunk(struct replay *replay, const struct chunk *chunk);

#endif

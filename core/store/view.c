/*
 * Views: the tree as it was at one moment, for as long as somebody wants to see it.
 *
 * Opening one ends an epoch and copies nothing.  From then on whoever changes a frame for
 * the first time does it in a copy (core/tree/frames.c) and hands the old image over to
 * us.  An image that we *retain* gets an id of its own, behind those of frames, under
 * which the pool has it like any other frame: it is latched, evicted when clean, and
 * loaded again in the same way.
 *
 *   frame 7:   | epoch 1..3  | epoch 4..8  | epoch 9..       |
 *              | retained R1 | retained R2 | live            |
 *                   ^ view of epoch 2   ^ view of epoch 8
 *
 * A view of epoch E sees of each frame the retained image that ended soonest after E, or
 * the live one if there is none.
 *
 * Where a retained image lies on disk:
 *
 *   NONE      nowhere; its slot is dirty.  The checkpoint under way may be about to write
 *             it (is_checkpoints); if not, it is *spilled* when there are many such or slots are
 *             wanted, to a disk frame that no manifest names: a crash frees it, and ends the view
 *   MANIFEST  where the manifest says, until a checkpoint gives the frame another place
 *   OWN       in a disk frame that is ours: spilled, or kept from such a checkpoint
 *
 * Invariants
 *  1. While an open view needs an image, it is live, or retained and in the table.  It
 *     enters the table under the exclusive latch of its slot, before its successor can be
 *     latched; so a reader who finds that nothing has changed with a latch in hand is right.
 *  2. An image that no open view needs is *dead*.  It stays in the table until its slot has
 *     been taken out of the pool: nobody looks it up there.  Its place is forgotten at
 *     once, so that nobody begins to load it.
 *  3. A disk frame kept from a checkpoint is given back only when that one is durable.
 *
 * When memory or space runs out the oldest view ends: its calls answer -ESTALE.
 *
 * Locks: views.mutex is a leaf; latches of slots are taken before it.  Dead images are
 * buried with nothing held (views_bury).
 */
#include "config.h"

#include "store/view_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"

struct store_view {
	struct store *store;
	uint64_t epoch; /* the last one it sees */
	struct tree tree;
	struct tree_view hook;
	_Atomic uint64_t empty_frames; /* then */
	_Atomic bool is_ended;
	struct store_view *next; /* newest first; guarded by views.mutex */
};

void views_init(struct views *views)
{
	mutex_init(&views->mutex, RANK_LEAF);
}

void views_fini(struct views *views)
{
	ASSERT(!views->open && views->count == 0);
	mutex_fini(&views->mutex);
	free(views->buckets);
	free(views->by_id);
}

/* ---- the table ------------------------------------------------------------------- */

static struct retained **bucket_of(struct views *views, uint64_t frame_id)
{
	return &views->buckets[frame_id * 0x9e3779b97f4a7c15ull >> 52];
}

struct retained *views_by_id_locked(struct views *views, uint64_t id)
{
	return id - ID_FIRST < views->by_id_size ? views->by_id[id - ID_FIRST] : NULL;
}

/* What a view of @epoch sees of the frame; NULL: the live image. */
static struct retained *find_locked(struct views *views, uint64_t frame_id, uint64_t epoch)
{
	struct retained *best = NULL;

	if (views->count == 0)
		return NULL;
	for (struct retained *image = *bucket_of(views, frame_id); image; image = image->next)
		if (image->frame_id == frame_id && image->ended > epoch &&
		    (!best || image->ended < best->ended))
			best = image;
	return best;
}

/* Stands for an image that is not yet in the pool. */
static struct retained being_made;

/* An id not in use: they go round, so that one is not used again soon. */
static int take_id_locked(struct views *views, uint64_t *ret)
{
	for (uint32_t tries = 0; tries < ID_COUNT; tries++) {
		uint32_t at = views->next_id++ % ID_COUNT;

		if (at >= views->by_id_size) {
			uint32_t wanted = max_of(2 * at, 1024u);
			uint32_t size = min_of(wanted, ID_COUNT);
			struct retained **grown = realloc(views->by_id, size * sizeof(*grown));

			if (!grown)
				return -ENOMEM;
			memset(grown + views->by_id_size, 0,
			    (size - views->by_id_size) * sizeof(*grown));
			views->by_id = grown;
			views->by_id_size = size;
		}
		if (!views->by_id[at]) {
			views->by_id[at] = &being_made;
			*ret = ID_FIRST + at;
			return 0;
		}
	}
	return -ENOSPC;
}

static void insert_locked(struct views *views, struct retained *image)
{
	struct retained **bucket = bucket_of(views, image->frame_id);

	image->next = *bucket;
	*bucket = image;
	views->by_id[image->id - ID_FIRST] = image;
	views->count++;
}

static void remove_locked(struct views *views, struct retained *image)
{
	struct retained **at = bucket_of(views, image->frame_id);

	while (*at != image)
		at = &(*at)->next;
	*at = image->next;
	views->by_id[image->id - ID_FIRST] = NULL;
	views->count--;
}

/* ---- which are needed --------------------------------------------------------------- */

static bool is_needed_locked(const struct views *views, const struct retained *image)
{
	for (const struct store_view *view = views->open; view; view = view->next)
		if (image->birth <= view->epoch && view->epoch < image->ended)
			return true;
	return false;
}

static void mark_dead_locked(struct views *views)
{
	for (uint32_t i = 0; i < BUCKETS && views->count; i++) {
		for (struct retained *image = views->buckets[i]; image; image = image->next) {
			if (image->is_dead || is_needed_locked(views, image))
				continue;
			image->is_dead = true;
			image->next_dead = views->dead;
			views->dead = image;
		}
	}
}

static void set_newest_locked(struct store *store)
{
	uint64_t newest = store->views.open ? store->views.open->epoch : 0;

	atomic_store(&store->tree.newest_view, newest);
	atomic_store(&store->internal.newest_view, newest);
}

/* Takes the view off the list; what only it needs is dead. */
static void leave_list_locked(struct store *store, struct store_view *view)
{
	struct store_view **at = &store->views.open;

	while (*at && *at != view)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = view->next;
	atomic_store(&view->is_ended, true);
	set_newest_locked(store);
	mark_dead_locked(&store->views);
}

/* ---- burying ------------------------------------------------------------------------- */

/* A dead image that can be buried now; it is busy from here on. */
static struct retained *pop_dead(struct views *views)
{
	struct retained **at, *image;

	mutex_lock(&views->mutex);
	at = &views->dead;
	while (*at && ((*at)->is_busy || ((*at)->is_kept && views->is_keeping)))
		at = &(*at)->next_dead;
	image = *at;
	if (image) {
		*at = image->next_dead;
		image->is_busy = true;
	}
	mutex_unlock(&views->mutex);
	return image;
}

static void bury(struct store *store, struct retained *image)
{
	struct views *views = &store->views;
	frame_key key = frame_key_make(FRAME_TREE, image->id);
	uint32_t slot = pool_latch_key_exclusive(store->pool, key);
	bool is_checkpoints;

	mutex_lock(&views->mutex);
	remove_locked(views, image);
	is_checkpoints = image->is_checkpoints;
	mutex_unlock(&views->mutex);
	if (slot != POOL_NO_SLOT) {
		pool_withdraw(store->pool, key, slot);
		pool_unlatch_exclusive(store->pool, slot);
		if (!is_checkpoints)
			pool_release(store->pool, slot);
	}
	if (image->is_counted)
		atomic_fetch_sub(&store->dirty_count, 1);
	if (image->kind == PLACE_OWN)
		space_cancel(store->space, image->place.disk_frame * FRAME_BLOCKS, FRAME_BLOCKS);
	free(image);
}

void views_bury(struct store *store)
{
	struct retained *image;

	while ((image = pop_dead(&store->views)))
		bury(store, image);
}

bool views_end_oldest(struct store *store)
{
	struct views *views = &store->views;
	struct store_view *oldest;

	mutex_lock(&views->mutex);
	oldest = views->open;
	while (oldest && oldest->next)
		oldest = oldest->next;
	if (oldest)
		leave_list_locked(store, oldest);
	mutex_unlock(&views->mutex);
	views_bury(store);
	if (oldest)
		log_warning("memory or space ran out: the oldest view has ended");
	return oldest;
}

/* ---- retaining ------------------------------------------------------------------------ */

/* Under its own id; a loader that came too late for an image long gone may still be there,
 * and leaves. */
static int publish(struct store *store, uint64_t id, uint32_t slot)
{
	frame_key key = frame_key_make(FRAME_TREE, id);
	int err;

	while ((err = pool_publish(store->pool, key, slot)) == -EEXIST) {
		uint32_t stale = pool_latch_key_exclusive(store->pool, key);

		if (stale != POOL_NO_SLOT)
			pool_unlatch_exclusive(store->pool, stale);
	}
	return err;
}

static void note_state(struct store *store, struct retained *image, uint32_t slot)
{
	uint64_t dirty_epoch = pool_dirty_epoch(store->pool, slot);

	if (dirty_epoch == 0) {
		manifest_get(store->space, image->frame_id, &image->place);
		image->kind = PLACE_MANIFEST;
	} else if (dirty_epoch < store->tree.cut) {
		image->is_checkpoints = true;
	} else if (!store->is_memory) {
		image->is_counted = true;
		atomic_fetch_add(&store->dirty_count, 1);
	}
}

/* Out of memory: nothing can be kept for them any more. */
static void end_all_since_locked(struct store *store, uint64_t birth)
{
	while (store->views.open && store->views.open->epoch >= birth)
		leave_list_locked(store, store->views.open);
}

/* An image read from disk does not know its birth; the one before it does. */
static void guess_birth_locked(struct views *views, struct retained *image)
{
	for (const struct retained *other = *bucket_of(views, image->frame_id); other; other = other->next)
		if (other->frame_id == image->frame_id)
			image->birth = max_of(image->birth, other->ended);
}

bool store_retain_image(void *ctx, uint64_t frame_id, uint32_t slot, uint64_t birth)
{
	struct store *store = ctx;
	struct views *views = &store->views;
	struct retained *image = calloc(1, sizeof(*image));
	bool is_retained = false;
	int err = image ? 0 : -ENOMEM;

	if (image) {
		*image = (struct retained){.frame_id = frame_id, .birth = birth, .ended = store->tree.epoch};
		note_state(store, image, slot);
	}
	mutex_lock(&views->mutex);
	if (image)
		guess_birth_locked(views, image);
	if (image && is_needed_locked(views, image)) {
		err = take_id_locked(views, &image->id);
		mutex_unlock(&views->mutex);
		if (!err)
			err = publish(store, image->id, slot);
		mutex_lock(&views->mutex);
		is_retained = err == 0;
		if (is_retained)
			insert_locked(views, image);
		else if (image->id)
			views->by_id[image->id - ID_FIRST] = NULL;
	}
	if (err)
		end_all_since_locked(store, birth);
	mutex_unlock(&views->mutex);
	if (is_retained)
		return true;
	if (image && image->is_counted)
		atomic_fetch_sub(&store->dirty_count, 1);
	free(image);
	return false;
}

/* ---- for checkpoints -------------------------------------------------------------------- */

void views_begin_keeping(struct store *store)
{
	mutex_lock(&store->views.mutex);
	store->views.is_keeping = true;
	mutex_unlock(&store->views.mutex);
}

int views_free_place(struct store *store, uint64_t frame_id, uint64_t disk_frame)
{
	struct views *views = &store->views;
	struct retained *image = NULL;

	mutex_lock(&views->mutex);
	if (views->count)
		image = *bucket_of(views, frame_id);
	while (image && (image->frame_id != frame_id || image->is_dead || image->kind != PLACE_MANIFEST ||
			    image->place.disk_frame != disk_frame))
		image = image->next;
	if (image) {
		image->kind = PLACE_OWN;
		image->is_kept = true;
	}
	mutex_unlock(&views->mutex);
	if (image)
		return space_frozen_keep(store->space, disk_frame * FRAME_BLOCKS, FRAME_BLOCKS);
	return space_frozen_free(store->space, disk_frame * FRAME_BLOCKS, FRAME_BLOCKS);
}

bool views_settle(struct store *store, uint64_t frame_id, uint32_t slot, bool is_written)
{
	struct views *views = &store->views;
	struct retained *image = NULL;
	struct manifest_place place;

	manifest_get(store->space, frame_id, &place);
	mutex_lock(&views->mutex);
	if (views->count)
		image = *bucket_of(views, frame_id);
	while (image && (image->frame_id != frame_id || !image->is_checkpoints))
		image = image->next;
	if (image) {
		image->is_checkpoints = false;
		if (is_written) {
			image->kind = PLACE_MANIFEST;
			image->place = place;
			pool_set_dirty_epoch(store->pool, slot, 0);
		} else {
			image->is_counted = true;
			atomic_fetch_add(&store->dirty_count, 1);
		}
	}
	mutex_unlock(&views->mutex);
	return image;
}

/* After one that failed the manifest has again what was kept. */
void views_end_keeping(struct store *store, bool is_durable)
{
	struct views *views = &store->views;

	mutex_lock(&views->mutex);
	for (uint32_t i = 0; i < BUCKETS && views->count; i++) {
		for (struct retained *image = views->buckets[i]; image; image = image->next) {
			if (image->is_kept && !is_durable)
				image->kind = PLACE_MANIFEST;
			image->is_kept = false;
		}
	}
	views->is_keeping = false;
	mutex_unlock(&views->mutex);
	views_bury(store);
}

/* ---- a view --------------------------------------------------------------------------------- */

static int find_image(void *ctx, uint64_t frame_id, uint64_t *ret_id)
{
	struct store_view *view = ctx;
	struct views *views = &view->store->views;
	const struct retained *image;
	int err = 0;

	mutex_lock(&views->mutex);
	image = find_locked(views, frame_id, view->epoch);
	*ret_id = image ? image->id : frame_id;
	if (atomic_load(&view->is_ended))
		err = -ECANCELED;
	mutex_unlock(&views->mutex);
	return err;
}

int view_load(const struct tree *tree, uint64_t frame_id)
{
	struct store_view *view = tree->view->ctx;
	uint64_t id;
	int err = find_image(view, frame_id, &id);

	return err ? err : store_load_frame(view->store, id);
}

static int make_buckets(struct views *views)
{
	struct retained **buckets = calloc(BUCKETS, sizeof(*buckets));

	mutex_lock(&views->mutex);
	if (!views->buckets) {
		views->buckets = buckets;
		buckets = NULL;
	}
	mutex_unlock(&views->mutex);
	free(buckets);
	return views->buckets ? 0 : -ENOMEM;
}

int store_view_open(struct store *store, struct store_view **ret)
{
	struct store_view *view = calloc(1, sizeof(*view));
	int err = view ? make_buckets(&store->views) : -ENOMEM;

	if (err) {
		free(view);
		return err;
	}
	view->store = store;
	view->hook = (struct tree_view){.ctx = view, .find = find_image};
	view->tree = (struct tree){
	    .pool = store->pool,
	    .root_id = store->tree.root_id,
	    .shape = 2,
	    .view = &view->hook,
	    .empty_frames = &view->empty_frames,
	    .frames_ever = &store->frames_ever,
	};
	gate_enter_exclusive(store->gate);
	view->epoch = store->tree.epoch++;
	atomic_store(&view->empty_frames, atomic_load(&store->empty_frames));
	store->internal.epoch = store->tree.epoch;
	mutex_lock(&store->views.mutex);
	view->next = store->views.open;
	store->views.open = view;
	set_newest_locked(store);
	mutex_unlock(&store->views.mutex);
	gate_leave_exclusive(store->gate);
	*ret = view;
	return 0;
}

void store_view_close(struct store_view *view)
{
	if (!view)
		return;
	mutex_lock(&view->store->views.mutex);
	leave_list_locked(view->store, view);
	mutex_unlock(&view->store->views.mutex);
	views_bury(view->store);
	free(view);
}

int store_view_get(struct store_view *view, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version)
{
	return store_get_from(view->store, &view->tree, key, key_bytes, value, capacity, ret_bytes, ret_version);
}

int store_view_longest_prefix(struct store_view *view, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, struct tree_longest *ret)
{
	return store_longest_prefix_from(view->store, &view->tree, key, key_bytes, value, capacity, ret);
}

int store_view_cursor_open(struct store_view *view, const struct store_range *range,
    struct store_cursor **ret)
{
	struct store_cursor *cursor;
	int err = cursor_open_tree(view->store, &view->tree, &cursor);

	if (err)
		return err;
	err = store_cursor_set_range(cursor, range);
	if (err)
		store_cursor_close(cursor);
	else
		*ret = cursor;
	return err;
}

int store_view_visit_runs(struct store_view *view, const struct store_range *range, uint64_t limit,
    store_run_fn take, void *ctx)
{
	return visit_tree(view->store, &view->tree, range, limit, take, ctx);
}

int store_view_is_prefix_empty(struct store_view *view, const void *prefix, uint32_t prefix_bytes)
{
	struct store_range range = {.prefix = prefix, .prefix_bytes = prefix_bytes, .keys_only = true};
	struct store_cursor *cursor;
	struct store_item item;
	int err = store_view_cursor_open(view, &range, &cursor);

	if (err)
		return err;
	err = store_cursor_next(cursor, &item);
	store_cursor_close(cursor);
	return err == -ENOENT ? 1 : err;
}

uint64_t views_count(struct store *store)
{
	uint64_t count = 0;

	mutex_lock(&store->views.mutex);
	for (const struct store_view *view = store->views.open; view; view = view->next)
		count++;
	mutex_unlock(&store->views.mutex);
	return count;
}

/*
 * The life of a file system: format, open, close; and what all parts use.
 *
 *	fs_format   store_format, then one transaction: root's record, number counter
 *	fs_open     store_open (recovers), root into core, orphans of a crash removed
 *	fs_start    the worker thread (worker.c)
 *	fs_close    data written and recorded, look-ups forgotten, store_close
 *
 * Inode numbers are never used twice: the tree records a limit above every number
 * given out, raised in steps by the very transaction that first needs a number beyond
 * it (create.c).  The next open begins at the limit.
 *
 * Errors: data that was acknowledged and cannot be written makes fs->error stick;
 * from then on nothing changes any more (-EROFS), and fsync reports it.
 */
#include "config.h"

#include "fs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "fs/fs_internal.h"

#define COMMIT_INTERVAL_MS_DEFAULT 1000u
#define CACHE_BYTES_DEFAULT (256ull * 1024 * 1024)
#define SEGMENTS_MIN 2u
#define SPANS_MIN 1024u
#define SPANS_SHARE 16u /* of cache_bytes: memory for span maps */

/* ---- errors, time, names --------------------------------------------------- */

int fs_error(struct fs *fs)
{
	int err = atomic_load(&fs->error);

	return err < 0 ? err : store_error(fs->store);
}

void fs_set_error(struct fs *fs, int err)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&fs->error, &none, err))
		log_error("data could not be written (%s): read-only from now on",
		    strerror(-err));
}

int fs_check_writable(struct fs *fs)
{
	return fs->is_read_only || fs_error(fs) < 0 ? -EROFS : 0;
}

struct timespec time_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now;
}

int name_check(struct fs_name name)
{
	if (name.len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (name.len == 0 || memchr(name.bytes, '/', name.len) ||
	    memchr(name.bytes, 0, name.len))
		return -EINVAL;
	if (name.bytes[0] == '.' &&
	    (name.len == 1 || (name.len == 2 && name.bytes[1] == '.')))
		return -EINVAL;
	return 0;
}

bool name_is(struct fs_name name, const struct inode *inode)
{
	return name.len == inode->name_len &&
	    memcmp(name.bytes, inode->name, name.len) == 0;
}

void damage_log(struct fs *fs, struct inode *inode, const struct damage *damage)
{
	char path[DESCRIBE_BYTES];
	KEY_ON_STACK(key);
	unsigned ticket;

	if (!damage->is_set)
		return;
	ticket = gate_enter_shared(fs->names);
	inode_lock_shared(inode);
	if (key_inode(&key, inode) < 0)
		key_orphan(&key, inode->ino);
	inode_unlock(inode);
	gate_leave_shared(fs->names, ticket);
	log_error("%s: damaged data at offset %llu, disk block %llu",
	    key_describe(&key, path), (unsigned long long)damage->offset,
	    (unsigned long long)damage->block);
}

/* ---- batches ----------------------------------------------------------------- */

int batch_take(struct fs *fs, struct store_batch **ret)
{
	struct store_batch *batch = NULL;

	mutex_lock(&fs->batch_mutex);
	if (fs->spare_batch_count > 0)
		batch = fs->spare_batches[--fs->spare_batch_count];
	mutex_unlock(&fs->batch_mutex);
	if (!batch)
		return store_batch_create(fs->store, ret);
	*ret = batch;
	return 0;
}

void batch_give(struct fs *fs, struct store_batch *batch)
{
	if (!batch)
		return;
	store_batch_reset(batch);
	mutex_lock(&fs->batch_mutex);
	if (fs->spare_batch_count < SPARE_BATCHES) {
		fs->spare_batches[fs->spare_batch_count++] = batch;
		batch = NULL;
	}
	mutex_unlock(&fs->batch_mutex);
	store_batch_destroy(batch);
}

int batch_commit(struct fs *fs, struct store_batch *batch)
{
	int err = store_commit(fs->store, batch, NULL);

	if (err == 0)
		worker_note_change(fs);
	return err;
}

/* ---- format ------------------------------------------------------------------ */

static void root_record(const struct fs_format_options *options, struct inode_value *value)
{
	uint32_t permissions = options->root_mode ? options->root_mode & 07777 : 0755;
	struct timespec now = time_now();

	value->head = (struct inode_record){
	    .mode = to_le32(S_IFDIR | permissions),
	    .ino = to_le64(FS_ROOT_INO),
	    .nlink = to_le32(2),
	    .uid = to_le32(options->root_uid),
	    .gid = to_le32(options->root_gid),
	    .reach = to_le32(1),
	};
	for (unsigned i = 0; i < INODE_TIMES; i++) {
		value->head.seconds[i] = to_le64((uint64_t)now.tv_sec);
		value->head.nanoseconds[i] = to_le32((uint32_t)now.tv_nsec);
	}
	record_set_body(value, INODE_BODY_NONE, 0);
}

static int put_root(struct store *store, const struct fs_format_options *options)
{
	le64 limit = to_le64(FS_ROOT_INO + 1);
	struct store_batch *batch;
	struct inode_value value;
	int err = store_batch_create(store, &batch);

	if (err < 0)
		return err;
	root_record(options, &value);
	store_batch_put(batch, KEY_ROOT_INODE, sizeof(KEY_ROOT_INODE) - 1,
	    value.raw, value.bytes);
	store_batch_put(batch, KEY_VOLUME_INO_LIMIT,
	    sizeof(KEY_VOLUME_INO_LIMIT) - 1, &limit, sizeof(limit));
	err = store_commit(store, batch, NULL);
	store_batch_destroy(batch);
	return err;
}

int fs_format(struct device *device, const struct fs_format_options *options)
{
	struct store_options store_options = {.no_threads = true, .keep_device = true};
	struct store_format_options format = {0};
	struct store *store;
	int err, close_err;

	_Static_assert(sizeof(format.label) == sizeof(options->label), "label");
	memcpy(format.uuid, options->uuid, sizeof(format.uuid));
	memcpy(format.label, options->label, sizeof(format.label));
	err = store_format(device, &format);
	if (err == 0)
		err = store_open(device, &store_options, &store);
	if (err < 0)
		return err;
	err = put_root(store, options);
	close_err = store_close(store);
	return err < 0 ? err : close_err;
}

/* ---- open -------------------------------------------------------------------- */

static void init_locks(struct fs *fs)
{
	mutex_init(&fs->number_mutex, RANK_LEAF);
	mutex_init(&fs->commit_mutex, RANK_FS_COMMIT);
	mutex_init(&fs->claims_mutex, RANK_CLAIMS);
	mutex_init(&fs->segment_mutex, RANK_SEGMENT);
	condition_init(&fs->segment_condition);
	mutex_init(&fs->pending_mutex, RANK_LEAF);
	mutex_init(&fs->span_mutex, RANK_LEAF);
	mutex_init(&fs->batch_mutex, RANK_LEAF);
	mutex_init(&fs->worker_mutex, RANK_LEAF);
	condition_init(&fs->worker_condition);
}

static void fini_locks(struct fs *fs)
{
	condition_fini(&fs->worker_condition);
	mutex_fini(&fs->worker_mutex);
	mutex_fini(&fs->batch_mutex);
	mutex_fini(&fs->span_mutex);
	mutex_fini(&fs->pending_mutex);
	condition_fini(&fs->segment_condition);
	mutex_fini(&fs->segment_mutex);
	mutex_fini(&fs->claims_mutex);
	mutex_fini(&fs->commit_mutex);
	mutex_fini(&fs->number_mutex);
}

static void free_memory(struct fs *fs)
{
	table_fini(fs);
	segments_fini(fs);
	for (uint32_t i = 0; i < fs->spare_batch_count; i++)
		store_batch_destroy(fs->spare_batches[i]);
	free(fs->reap_queue);
	gate_destroy(fs->names);
	fini_locks(fs);
	free(fs);
}

static int init_memory(struct fs *fs)
{
	uint64_t cache_bytes = fs->options.cache_bytes ? fs->options.cache_bytes :
							       CACHE_BYTES_DEFAULT;
	uint64_t spans = cache_bytes / SPANS_SHARE / sizeof(struct span);
	int err = table_init(fs);

	if (err < 0)
		return err;
	fs->names = gate_create(RANK_NAMESPACE);
	if (!fs->names)
		return -ENOMEM;
	fs->segment_limit = max_of(SEGMENTS_MIN, pool_slot_count(fs->pool) / 4);
	fs->span_limit = spans > SPANS_MIN ? spans : SPANS_MIN;
	return segments_init(fs);
}

static int open_store(struct fs *fs, struct device *device)
{
	struct store_options options = {
	    .cache_bytes = fs->options.cache_bytes,
	    .is_read_only = fs->options.is_read_only,
	    .has_shared_ring = fs->options.has_shared_ring,
	    .no_threads = fs->options.no_threads,
	    .keep_device = fs->options.keep_device,
	};
	int err = store_open(device, &options, &fs->store);

	if (err < 0)
		return err;
	fs->device = store_device(fs->store);
	fs->pool = store_pool(fs->store);
	fs->space = store_space(fs->store);
	fs->is_read_only = fs->options.is_read_only || store_is_read_only(fs->store);
	return 0;
}

static int read_ino_limit(struct fs *fs)
{
	le64 limit;
	uint32_t bytes;
	int err = store_get(fs->store, KEY_VOLUME_INO_LIMIT,
	    sizeof(KEY_VOLUME_INO_LIMIT) - 1, &limit, sizeof(limit), &bytes, NULL);

	if (err == 0 && (bytes != sizeof(limit) || from_le64(limit) <= FS_ROOT_INO))
		err = -EUCLEAN;
	if (err == -ENOENT || err == -ERANGE)
		err = -EUCLEAN;
	if (err < 0) {
		log_error("the counter of inode numbers is damaged or missing");
		return err;
	}
	fs->ino_limit = from_le64(limit);
	atomic_store(&fs->next_ino, fs->ino_limit);
	return 0;
}

static int read_root(struct fs *fs)
{
	KEY_ON_STACK(key);
	struct inode_value value;
	struct inode *root;
	int err;

	memcpy(key.at, KEY_ROOT_INODE, sizeof(KEY_ROOT_INODE) - 1);
	key.bytes = sizeof(KEY_ROOT_INODE) - 1;
	err = record_get(fs, &key, &value);
	if (err == -ENOENT)
		log_error("the volume has no root directory");
	if (err < 0)
		return err == -ENOENT ? -EUCLEAN : err;
	if (from_le64(value.head.ino) != FS_ROOT_INO ||
	    !S_ISDIR(from_le32(value.head.mode))) {
		log_error("the root directory's record is damaged");
		return -EUCLEAN;
	}
	root = inode_new(FS_ROOT_INO, from_le32(value.head.mode));
	if (!root)
		return -ENOMEM;
	record_read(root, &value);
	inode_publish(fs, root, 1);
	fs->root = root;
	return 0;
}

/* ---- close ------------------------------------------------------------------- */

/* Data that could not be written goes with the memory it is in. */
static void discard_pending(struct fs *fs)
{
	for (;;) {
		struct inode *inode;

		mutex_lock(&fs->pending_mutex);
		inode = fs->pending;
		mutex_unlock(&fs->pending_mutex);
		if (!inode)
			break;
		inode_hold(fs, inode);
		inode_lock(inode);
		pending_discard(fs, inode);
		inode_unlock(inode);
		inode_put(fs, inode);
	}
	segments_close(fs, true);
}

int fs_close(struct fs *fs)
{
	struct store *store;
	int err = 0, close_err;

	if (!fs)
		return 0;
	store = fs->store;
	worker_stop(fs);
	if (!fs->is_read_only) {
		err = flush_all(fs);
		if (err == 0)
			err = fs_error(fs);
		table_forget_all(fs);
		worker_reap_now(fs);
	}
	fs->is_read_only = true;
	discard_pending(fs);
	(void)segments_write(fs, NULL, 0);
	reserve_drop(fs);
	free_memory(fs);
	close_err = store_close(store);
	return err < 0 ? err : close_err;
}

static void abandon_all_but_store(struct fs *fs)
{
	worker_stop(fs);
	fs->is_read_only = true;
	if (fs->segment_of_slot) {
		discard_pending(fs);
		(void)segments_write(fs, NULL, 0);
	}
	reserve_drop(fs);
	free_memory(fs);
}

void fs_abandon(struct fs *fs)
{
	struct store *store = fs->store;

	abandon_all_but_store(fs);
	store_abandon(store);
}

/* Opening has failed: the device stays the caller's. */
static void give_back(struct fs *fs)
{
	struct store *store = fs->store;

	abandon_all_but_store(fs);
	store_give_back(store);
}

/* ---- opening all of it -------------------------------------------------------- */

int fs_open(struct device *device, const struct fs_options *options, struct fs **ret)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int err;

	if (!fs)
		return -ENOMEM;
	fs->options = *options;
	if (fs->options.commit_interval_ms == 0)
		fs->options.commit_interval_ms = COMMIT_INTERVAL_MS_DEFAULT;
	init_locks(fs);
	err = open_store(fs, device);
	if (err < 0) {
		fini_locks(fs);
		free(fs);
		return err;
	}
	err = init_memory(fs);
	if (err == 0)
		err = read_ino_limit(fs);
	if (err == 0)
		err = read_root(fs);
	if (err == 0)
		err = reserve_open(fs);
	if (err == 0 && !fs->is_read_only)
		err = orphan_remove_all(fs);
	if (err < 0) {
		give_back(fs);
		return err;
	}
	*ret = fs;
	return 0;
}

int fs_start(struct fs *fs)
{
	return fs->options.no_threads || fs->is_read_only ? 0 : worker_start(fs);
}

/* ---- the whole ----------------------------------------------------------------- */

int fs_sync(struct fs *fs)
{
	int err = fs_error(fs);

	if (fs->is_read_only)
		return 0;
	if (err == 0)
		err = flush_all(fs);
	if (err == 0)
		err = store_sync(fs->store, store_end_lsn(fs->store), JOURNAL_SYNC);
	return err;
}

/* Inodes are made as needed, there is no table of them to fill: the numbers say how
 * many small files would fit.  Claims are no longer free. */
int fs_statfs(struct fs *fs, struct fs_statfs *ret)
{
	struct space_counters counters;
	uint64_t open, unavailable = reserve_unavailable(fs, &open);

	space_counters(fs->space, &counters);
	*ret = (struct fs_statfs){
	    .blocks = counters.total_blocks,
	    .blocks_free = counters.free_blocks + counters.resting_blocks,
	    .blocks_available = counters.data_available_blocks,
	};
	ret->blocks_free -= min_of(ret->blocks_free, open);
	ret->blocks_available -= min_of(ret->blocks_available, unavailable);
	ret->files_free = ret->blocks_available * (BLOCK_BYTES / 256);
	ret->files = ret->files_free;
	return 0;
}

const char *fs_describe_io(struct fs *fs)
{
	return device_describe(fs->device);
}

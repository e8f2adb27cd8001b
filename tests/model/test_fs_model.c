/*
 * Random operations on a file system and on a plain model of one: same answers, same
 * content, also after closing and opening again, and after the process died behind a
 * sync.  Small pool, so that segments, cached frames and spans come and go; files of
 * up to some spans; unlinked files that are still known.
 *
 * TEST_SEED replays; TEST_LONG=1 runs for longer.
 */
#include "config.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/model/fs_model.h"
#include "tests/support/support.h"
#include "tests/unit/test_fs.h"

#define STEPS 6000
#define STEPS_LONG 200000
#define NAMES 9
#define FILE_BYTES_MAX (1600u * 1024)
#define TOTAL_BYTES_MAX (24u * 1024 * 1024)

struct run {
	struct test_volume volume;
	struct fs *fs;
	struct model m, durable;
	uint64_t random;
	uint64_t step;
};

static uint64_t below(struct run *r, uint64_t end)
{
	return support_random_below(&r->random, end);
}

/* Names of all lengths, some of which are prefixes of others. */
static const char *pick_name(struct run *r, char name[MODEL_NAME])
{
	uint64_t n = below(r, NAMES);

	if (n == 0) {
		memset(name, 'l', 255);
		name[255] = 0;
	} else if (n == 1) {
		strcpy(name, "a\x01 \xff");
	} else {
		memset(name, 'a', n - 1);
		name[n - 1] = 0;
	}
	return name;
}

/* A node that is known, of the type if it is not 0; -1 after some tries. */
static int pick_node(struct run *r, uint32_t type, bool linked_only)
{
	for (int i = 0; i < 60; i++) {
		int node = (int)below(r, MODEL_NODES);
		const struct model_node *n = &r->m.nodes[node];

		if (n->is_used && n->lookups > 0 && (type == 0 || n->type == type) &&
		    (n->is_linked || !linked_only))
			return node;
	}
	return type == S_IFDIR ? 0 : -1;
}

static uint64_t ino_of(const struct run *r, int node)
{
	return r->m.nodes[node].ino;
}

/* ---- operations -------------------------------------------------------------- */

static void expect_attr(const struct run *r, int node, const struct fs_attr *attr)
{
	const struct model_node *n = &r->m.nodes[node];

	ck_assert_uint_eq(attr->ino, n->ino);
	ck_assert_uint_eq(attr->mode, n->mode);
	if (n->type == S_IFDIR) {
		ck_assert_uint_eq(attr->size, (uint64_t)n->entries * 64);
		ck_assert_uint_eq(attr->nlink,
		    n->is_linked ? 2u + (unsigned)n->subdirectories : 0);
	} else {
		ck_assert_uint_eq(attr->size, n->size);
		ck_assert_uint_eq(attr->nlink, n->is_linked);
	}
}

static int create_one(struct run *r, int dir, const char *name, uint64_t kind,
    const char *target, struct fs_attr *attr)
{
	uint64_t parent = ino_of(r, dir);

	if (kind < 6)
		return fs_mknod(r->fs, parent, test_name(name), S_IFREG | 0644, 0,
		    &test_cred, attr);
	if (kind < 9)
		return fs_mkdir(r->fs, parent, test_name(name), 0755, &test_cred, attr);
	return fs_symlink(r->fs, parent, test_name(name), target, &test_cred, attr);
}

static void do_create(struct run *r)
{
	char name[MODEL_NAME], target[MODEL_NAME];
	uint64_t kind = below(r, 10);
	uint32_t mode = kind < 6 ? S_IFREG | 0644 : kind < 9 ? S_IFDIR | 0755 : S_IFLNK | 0777;
	int dir = pick_node(r, below(r, 20) ? S_IFDIR : 0, false);
	struct fs_attr attr;
	int node, err;

	if (dir < 0)
		return;
	pick_name(r, target);
	node = model_create(&r->m, dir, pick_name(r, name), mode, kind < 9 ? NULL : target);
	if (node == -ENFILE)
		return;
	err = create_one(r, dir, name, kind, target, &attr);
	ck_assert_int_eq(err, node < 0 ? node : 0);
	if (node < 0)
		return;
	r->m.nodes[node].ino = attr.ino;
	expect_attr(r, node, &attr);
}

static void do_unlink(struct run *r)
{
	char name[MODEL_NAME];
	int dir = pick_node(r, S_IFDIR, false);
	bool is_rmdir = below(r, 2);

	pick_name(r, name);
	if (is_rmdir)
		ck_assert_int_eq(fs_rmdir(r->fs, ino_of(r, dir), test_name(name)),
		    model_rmdir(&r->m, dir, name));
	else
		ck_assert_int_eq(fs_unlink(r->fs, ino_of(r, dir), test_name(name)),
		    model_unlink(&r->m, dir, name));
}

static void do_rename(struct run *r)
{
	char name[MODEL_NAME], new_name[MODEL_NAME];
	int from = pick_node(r, S_IFDIR, false), to = pick_node(r, S_IFDIR, false);
	bool no_replace = below(r, 4) == 0;
	int err;

	pick_name(r, name);
	pick_name(r, new_name);
	err = fs_rename(r->fs, ino_of(r, from), test_name(name), ino_of(r, to),
	    test_name(new_name), no_replace ? RENAME_NOREPLACE : 0);
	ck_assert_int_eq(err, model_rename(&r->m, from, name, to, new_name, no_replace));
}

static size_t total_bytes(const struct run *r)
{
	size_t total = 0;

	for (int i = 0; i < MODEL_NODES; i++)
		total += r->m.nodes[i].size;
	return total;
}

/* Mostly small, now and then up to the end. */
static size_t pick_bytes(struct run *r, size_t most)
{
	static const uint64_t steps[] = {200, 4000, 9000, 70000, 600000};
	uint64_t limit = steps[below(r, 5)];

	if (below(r, 4) == 0) /* block edges */
		return (size_t)(below(r, limit / 4096 + 2) * 4096) % (most + 1);
	return (size_t)(below(r, limit) % (most + 1));
}

static void do_write(struct run *r)
{
	int node = pick_node(r, S_IFREG, false);
	size_t offset, bytes;
	uint8_t *data;

	if (node < 0 || total_bytes(r) > TOTAL_BYTES_MAX)
		return;
	offset = below(r, 3) ? pick_bytes(r, FILE_BYTES_MAX / 2) : r->m.nodes[node].size;
	bytes = min_of(pick_bytes(r, FILE_BYTES_MAX / 2), FILE_BYTES_MAX - offset);
	data = malloc(bytes + 1);
	test_fill(data, r->step, offset, bytes);
	ck_ok(fs_write(r->fs, ino_of(r, node), offset, data, bytes,
	    offset == r->m.nodes[node].size && below(r, 2), below(r, 50) == 0));
	if (bytes > 0)
		model_write(&r->m, node, offset, data, bytes);
	free(data);
}

static void do_truncate(struct run *r)
{
	int node = pick_node(r, S_IFREG, false);
	struct fs_attr attr = {0};

	if (node < 0)
		return;
	attr.size = below(r, 3) ? pick_bytes(r, FILE_BYTES_MAX) :
					below(r, r->m.nodes[node].size + 1);
	if (total_bytes(r) > TOTAL_BYTES_MAX)
		attr.size = 0;
	ck_ok(fs_setattr(r->fs, ino_of(r, node), FS_SET_SIZE, &attr, &attr));
	model_resize(&r->m, node, attr.size);
	expect_attr(r, node, &attr);
}

static void do_fallocate(struct run *r)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
	    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	int node = pick_node(r, S_IFREG, false), mode = modes[below(r, ARRAY_COUNT(modes))];
	size_t offset, bytes, size;
	struct fs_attr attr;

	if (node < 0 || total_bytes(r) > TOTAL_BYTES_MAX)
		return;
	size = r->m.nodes[node].size;
	offset = below(r, 2) ? below(r, size + 1) : pick_bytes(r, FILE_BYTES_MAX - 1);
	bytes = 1 + pick_bytes(r, FILE_BYTES_MAX - 1 - min_of(offset, (size_t)FILE_BYTES_MAX - 1));
	ck_ok(fs_fallocate(r->fs, ino_of(r, node), mode, offset, bytes));
	if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + bytes > size)
		model_resize(&r->m, node, offset + bytes);
	size = r->m.nodes[node].size;
	if (mode & ~FALLOC_FL_KEEP_SIZE && offset < size)
		memset(r->m.nodes[node].data + offset, 0, min_of(bytes, size - offset));
	ck_ok(fs_getattr(r->fs, ino_of(r, node), &attr));
	expect_attr(r, node, &attr);
}

static void expect_model_zeros(struct run *r, int node, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (r->m.nodes[node].data[i] != 0)
			ck_abort_msg("byte %zu of inode %llu is in a hole", i,
			    (unsigned long long)ino_of(r, node));
}

/* Everything between two stretches of data is zeros. */
static void do_seek(struct run *r)
{
	int node = pick_node(r, S_IFREG, false);
	uint64_t at = 0, data, hole;
	size_t size;
	int err = 0;

	if (node < 0)
		return;
	size = r->m.nodes[node].size;
	while (at < size && (err = fs_seek(r->fs, ino_of(r, node), at, SEEK_DATA, &data)) == 0) {
		ck_assert_uint_ge(data, at);
		ck_assert_uint_lt(data, size);
		expect_model_zeros(r, node, at, data);
		ck_ok(fs_seek(r->fs, ino_of(r, node), data, SEEK_HOLE, &hole));
		ck_assert_uint_gt(hole, data);
		ck_assert_uint_le(hole, size);
		at = hole;
	}
	if (at < size || size == 0)
		ck_assert_int_eq(fs_seek(r->fs, ino_of(r, node), at, SEEK_DATA, &data), -ENXIO);
	expect_model_zeros(r, node, at, size);
}

static void do_chmod(struct run *r)
{
	int node = pick_node(r, 0, false);
	struct fs_attr attr = {.mode = (uint32_t)below(r, 01000)};

	if (node < 0)
		return;
	r->m.nodes[node].mode = r->m.nodes[node].type | attr.mode;
	ck_ok(fs_setattr(r->fs, ino_of(r, node), FS_SET_MODE, &attr, &attr));
	expect_attr(r, node, &attr);
}

static void expect_data(struct run *r, int node, size_t offset, size_t bytes)
{
	const struct model_node *n = &r->m.nodes[node];
	size_t have = offset < n->size ? min_of(bytes, n->size - offset) : 0;
	uint8_t *got = malloc(bytes + 1);

	ck_assert_uint_eq(test_read(r->fs, n->ino, offset, got, bytes), have);
	if (have > 0)
		ck_assert_mem_eq(got, n->data + offset, have);
	free(got);
}

static void do_read(struct run *r)
{
	int node = pick_node(r, S_IFREG, false);

	if (node >= 0)
		expect_data(r, node, pick_bytes(r, FILE_BYTES_MAX), pick_bytes(r, FILE_BYTES_MAX));
}

static void do_lookup(struct run *r)
{
	char name[MODEL_NAME];
	int dir = pick_node(r, S_IFDIR, true);
	struct fs_attr attr;
	int node = model_find(&r->m, dir, pick_name(r, name));

	ck_assert_int_eq(fs_lookup(r->fs, ino_of(r, dir), test_name(name), &attr),
	    node < 0 ? -ENOENT : 0);
	if (node < 0)
		return;
	r->m.nodes[node].lookups++;
	expect_attr(r, node, &attr);
}

static void do_forget(struct run *r)
{
	int node = pick_node(r, 0, false);

	if (node <= 0)
		return;
	fs_forget(r->fs, ino_of(r, node), r->m.nodes[node].lookups);
	model_forget(&r->m, node);
}

/* ---- listings ------------------------------------------------------------------ */

struct listing {
	struct run *r;
	int dir;
	int room;
	uint64_t token;
	bool seen[MODEL_NODES];
	int count;
	char last[MODEL_NAME];
};

static bool list_one(void *ctx, const struct fs_dirent *entry)
{
	struct listing *l = ctx;
	char name[MODEL_NAME];
	int node;

	if (l->room-- == 0)
		return false;
	l->token = entry->token;
	l->count++;
	memcpy(name, entry->name.bytes, entry->name.len);
	name[entry->name.len] = 0;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	ck_assert_int_lt(strcmp(l->last, name), 0);
	strcpy(l->last, name);
	node = model_find(&l->r->m, l->dir, name);
	ck_assert_int_gt(node, 0);
	ck_assert(!l->seen[node]);
	l->seen[node] = true;
	ck_assert_uint_eq(entry->ino, l->r->m.nodes[node].ino);
	ck_assert_uint_eq(entry->type, l->r->m.nodes[node].type);
	if (entry->attr) {
		expect_attr(l->r, node, entry->attr);
		l->r->m.nodes[node].lookups++;
	}
	return true;
}

static void do_list(struct run *r)
{
	struct listing *l = calloc(1, sizeof(*l));
	bool with_attr = below(r, 2);
	struct fs_dir *dir;
	int before;

	l->r = r;
	l->dir = pick_node(r, S_IFDIR, true);
	ck_ok(fs_opendir(r->fs, ino_of(r, l->dir), &dir));
	do {
		before = l->count;
		l->room = 1 + (int)below(r, 8);
		ck_ok(fs_readdir(dir, l->token, with_attr, list_one, l));
	} while (l->count > before);
	ck_assert_int_eq(l->count, r->m.nodes[l->dir].entries + 2);
	fs_closedir(dir);
	free(l);
}

/* ---- the whole tree --------------------------------------------------------------- */

static void look_up_below(struct run *r, int dir)
{
	for (int i = 1; i < MODEL_NODES; i++) {
		struct model_node *n = &r->m.nodes[i];
		struct fs_attr attr;

		if (!n->is_used || !n->is_linked || n->parent != dir)
			continue;
		ck_ok(fs_lookup(r->fs, ino_of(r, dir), test_name(n->name), &attr));
		n->lookups = 1;
		expect_attr(r, i, &attr);
		if (n->type == S_IFREG)
			expect_data(r, i, 0, n->size + 10);
		if (n->type == S_IFLNK) {
			char target[MODEL_NAME];

			ck_assert_int_eq(fs_readlink(r->fs, n->ino, target, sizeof(target)),
			    (ssize_t)n->size);
			ck_assert_mem_eq(target, n->data, n->size);
		}
		if (n->type == S_IFDIR)
			look_up_below(r, i);
	}
}

/* A new process knows nothing yet. */
static void start_again(struct run *r)
{
	r->fs = r->volume.fs;
	for (int i = 1; i < MODEL_NODES; i++)
		if (r->m.nodes[i].is_used)
			model_forget(&r->m, i);
	look_up_below(r, 0);
}

static void do_reopen(struct run *r)
{
	test_volume_reopen(&r->volume);
	start_again(r);
}

static void do_recover(struct run *r)
{
	ck_ok(below(r, 2) ? fs_sync(r->fs) : fs_fsync(r->fs, FS_ROOT_INO, false));
	test_volume_recover(&r->volume);
	start_again(r);
}

static void do_fsync(struct run *r)
{
	int node = pick_node(r, S_IFREG, false);

	if (node >= 0)
		ck_ok(fs_fsync(r->fs, ino_of(r, node), below(r, 2)));
}

static void step(struct run *r)
{
	static const struct {
		unsigned weight;
		void (*fn)(struct run *r);
	} operations[] = {
	    {120, do_create}, {60, do_unlink}, {80, do_rename}, {200, do_write},
	    {60, do_truncate}, {60, do_fallocate}, {40, do_seek}, {30, do_chmod}, {200, do_read}, {60, do_lookup},
	    {60, do_forget}, {30, do_list}, {12, do_fsync}, {2, do_reopen}, {2, do_recover},
	};
	uint64_t pick, total = 0;

	for (size_t i = 0; i < ARRAY_COUNT(operations); i++)
		total += operations[i].weight;
	pick = below(r, total);
	for (size_t i = 0; i < ARRAY_COUNT(operations); i++) {
		if (pick < operations[i].weight) {
			operations[i].fn(r);
			return;
		}
		pick -= operations[i].weight;
	}
}

START_TEST(fs_behaves_as_the_model)
{
	struct run *r = calloc(1, sizeof(*r));
	uint64_t steps = getenv("TEST_LONG") ? STEPS_LONG : STEPS;

	r->random = support_seed(20261122);
	test_volume_make(&r->volume, 2 * TEST_VOLUME_BYTES);
	r->fs = r->volume.fs;
	model_init(&r->m);
	for (r->step = 1; r->step <= steps; r->step++)
		step(r);
	do_reopen(r);
	test_volume_remove(&r->volume);
	model_fini(&r->m);
	free(r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fs model");
	TCase *tests = tcase_create("model");

	support_log_to_stderr();
	tcase_set_timeout(tests, 600);
	tcase_add_test(tests, fs_behaves_as_the_model);
	suite_add_tcase(suite, tests);
	return support_run(suite);
}

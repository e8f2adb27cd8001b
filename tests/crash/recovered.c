/*
 * What the promises (docs/durability.md) allow after a crash.
 *
 * Names, types, owners, modes, link counts, targets, directories' sizes and times:
 * exactly those after some request k, which is not before the last request that was
 * answered as durable.
 *
 * A file's data reaches the log later than its attributes.  Let *recorded* be the last
 * request up to k by which all its data was in the log (fsync, sync, a rename over
 * another file, ...).  Then
 *
 *  - its size is one it had after a request from `recorded` to k + 1 (the one under
 *    way at the crash may have been kept in part), or ends with a whole block below;
 *    and it is not larger than any it had since it was last cut;
 *  - every block of it is what it was after one of those requests.  One may show the
 *    state after request j only as far as the file went then, and has gone ever
 *    since: nothing is undone that a truncation cut off, and no zeros stand for data
 *    that was on its way;
 *  - its times are those after a request since its record was last put;
 *  - it has space for what was allocated (fallocate): that is in the log at once.
 */
#include "config.h"

#include "tests/crash/recovered.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static bool wrong(struct recovered *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
	return false;
}

/* ---- reading ---------------------------------------------------------------------- */

struct listing {
	struct recovered *recovered;
	const struct history *history;
	uint64_t parent;
	uint64_t token;
	uint32_t taken;
	bool is_good;
};

static int node_of(const struct history *history, uint64_t ino)
{
	for (uint32_t i = 0; i < history->node_count; i++)
		if (history->nodes[i].ino == ino)
			return (int)i;
	return -1;
}

static bool take_entry(void *ctx, const struct fs_dirent *entry)
{
	struct listing *l = ctx;
	struct found *found;
	int node;

	l->token = entry->token;
	l->taken++;
	if (!entry->attr)
		return true;
	node = node_of(l->history, entry->ino);
	if (node < 0 || l->recovered->nodes[node].is_there ||
	    entry->name.len >= HISTORY_NAME) {
		l->is_good = wrong(l->recovered, "entry %.*s of inode %llu: number %llu %s",
		    (int)entry->name.len, entry->name.bytes, (unsigned long long)l->parent,
		    (unsigned long long)entry->ino, node < 0 ? "never was" : "comes twice");
		return true;
	}
	found = &l->recovered->nodes[node];
	found->is_there = true;
	found->parent = l->parent;
	found->attr = *entry->attr;
	memcpy(found->name, entry->name.bytes, entry->name.len);
	l->recovered->count++;
	return true;
}

static bool list(struct recovered *r, const struct history *history, struct fs *fs, uint64_t ino)
{
	struct listing l = {.recovered = r, .history = history, .parent = ino, .is_good = true};
	struct fs_dir *dir;
	int err = fs_opendir(fs, ino, &dir);

	if (err < 0)
		return wrong(r, "directory %llu: opendir: %s", (unsigned long long)ino, strerror(-err));
	do {
		l.taken = 0;
		err = fs_readdir(dir, l.token, true, take_entry, &l);
	} while (err == 0 && l.taken > 0 && l.is_good);
	fs_closedir(dir);
	if (err < 0)
		return wrong(r, "directory %llu: readdir: %s", (unsigned long long)ino, strerror(-err));
	return l.is_good;
}

static bool read_data(struct recovered *r, struct found *found, struct fs *fs)
{
	uint64_t size = found->attr.size, at = 0;

	found->data = malloc(size + 1);
	while (at < size) {
		struct fs_read read;
		int err = fs_read(fs, found->attr.ino, at, size - at, &read);

		if (err == 0 && read.bytes == 0)
			err = -EIO;
		if (err < 0)
			return wrong(r, "%s: read at %llu: %s", found->name,
			    (unsigned long long)at, strerror(-err));
		for (uint32_t i = 0; i < read.count; i++) {
			memcpy(found->data + at, read.pieces[i].iov_base, read.pieces[i].iov_len);
			at += read.pieces[i].iov_len;
		}
		fs_read_done(fs, &read);
	}
	return true;
}

static bool read_node(struct recovered *r, const struct history *history, struct fs *fs, int node)
{
	struct found *found = &r->nodes[node];
	ssize_t bytes;

	if (S_ISDIR(found->attr.mode))
		return list(r, history, fs, found->attr.ino);
	if (S_ISREG(found->attr.mode))
		return read_data(r, found, fs);
	found->data = calloc(1, FS_SYMLINK_MAX + 1);
	bytes = fs_readlink(fs, found->attr.ino, (char *)found->data, FS_SYMLINK_MAX);
	return bytes >= 0 || wrong(r, "%s: readlink: %s", found->name, strerror((int)-bytes));
}

bool recovered_read(struct recovered *r, const struct history *history, struct fs *fs)
{
	bool is_done[HISTORY_NODES] = {false}, has_more = true;

	memset(r, 0, sizeof(*r));
	r->nodes[0].is_there = true;
	r->count = 1;
	if (fs_getattr(fs, FS_ROOT_INO, &r->nodes[0].attr) < 0)
		return wrong(r, "the root has no attributes");
	while (has_more) {
		has_more = false;
		for (uint32_t i = 0; i < history->node_count; i++) {
			if (!r->nodes[i].is_there || is_done[i])
				continue;
			if (!read_node(r, history, fs, (int)i))
				return false;
			is_done[i] = has_more = true;
		}
	}
	return true;
}

void recovered_free(struct recovered *r)
{
	for (uint32_t i = 0; i < HISTORY_NODES; i++)
		free(r->nodes[i].data);
	memset(r, 0, sizeof(*r));
}

/* ---- comparing --------------------------------------------------------------------- */

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_not_after(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec <= b->tv_nsec);
}

static bool plain_fits(struct recovered *r, const struct found *found, const struct version *v)
{
	const struct fs_attr *attr = &found->attr;

	if (attr->mode != v->mode || attr->uid != v->uid || attr->gid != v->gid)
		return wrong(r, "%s: mode %o of %u:%u, not %o of %u:%u", v->name, attr->mode,
		    attr->uid, attr->gid, v->mode, v->uid, v->gid);
	if (S_ISREG(v->mode))
		return attr->nlink == 1 || wrong(r, "%s: %u links", v->name, attr->nlink);
	if (!is_same_time(&attr->mtime, &v->mtime) || !is_same_time(&attr->ctime, &v->ctime))
		return wrong(r, "%s: times of another request", v->name);
	if (S_ISDIR(v->mode) &&
	    (attr->nlink != 2 + v->subdirectories || attr->size != 64ull * v->entries))
		return wrong(r, "%s: %u links and size %llu, with %u entries and %u subdirectories",
		    v->name, attr->nlink, (unsigned long long)attr->size, v->entries,
		    v->subdirectories);
	return true;
}

/* Versions of a file that matter for request k. */
struct window {
	const struct version *versions;
	uint32_t recorded, put; /* the newest such version up to k */
	uint32_t shrunk;	/* the newest that made it smaller up to k; else recorded */
	uint32_t known, last;	/* the newest up to k; up to k + 1 */
};

static struct window window_at(const struct node *node, uint32_t k)
{
	struct window w = {.versions = node->versions};

	for (uint32_t i = 0; i < node->count && node->versions[i].request <= k + 1; i++) {
		const struct version *version = &node->versions[i];

		w.last = i;
		if (version->request > k)
			break;
		w.known = i;
		if (version->is_recorded)
			w.recorded = i;
		if (version->is_put)
			w.put = i;
		if (version->is_shrink)
			w.shrunk = i;
	}
	w.shrunk = max_of(w.shrunk, w.recorded);
	return w;
}

static bool times_fit(struct recovered *r, const struct found *found, const struct window *w)
{
	const struct timespec *mtime = &found->attr.mtime, *ctime = &found->attr.ctime;

	for (uint32_t i = w->put; i <= w->last; i++) {
		const struct version *version = &w->versions[i];

		if (is_same_time(mtime, &version->mtime) && is_same_time(ctime, &version->ctime))
			return true;
		/* Recorded in the middle of a write of several steps. */
		if (is_same_time(mtime, ctime) && is_not_after(&version->begun, mtime) &&
		    is_not_after(mtime, &version->mtime))
			return true;
	}
	return wrong(r, "%s: times it had neither after request %u nor any from there to %u",
	    found->name, w->versions[w->put].request, w->versions[w->last].request);
}

static bool size_fits(struct recovered *r, const struct found *found, const struct window *w)
{
	uint64_t size = found->attr.size, least = UINT64_MAX, most = 0;
	bool is_known = size % HISTORY_BLOCK == 0;

	for (uint32_t i = w->recorded; i <= w->last; i++) {
		uint64_t then = w->versions[i].size;

		is_known |= size == then;
		least = min_of(least, then);
		if (i >= w->shrunk)
			most = max_of(most, then);
	}
	if (is_known && size >= least && size <= most)
		return true;
	return wrong(r, "%s: size %llu, from request %u to %u it went from %llu to %llu",
	    found->name, (unsigned long long)size, w->versions[w->recorded].request,
	    w->versions[w->last].request, (unsigned long long)least,
	    (unsigned long long)most);
}

static bool is_content(const uint8_t *data, const uint8_t *block, size_t bytes)
{
	static const uint8_t zeros[HISTORY_BLOCK];

	return memcmp(data, block ? block : zeros, bytes) == 0;
}

static bool block_fits(struct recovered *r, const struct found *found, const struct window *w,
    uint64_t block)
{
	uint64_t start = block * HISTORY_BLOCK, limit = UINT64_MAX;
	uint64_t end = min_of(found->attr.size, start + HISTORY_BLOCK);

	for (uint32_t i = w->last + 1; i > w->recorded; i--) {
		const struct version *version = &w->versions[i - 1];

		if (end <= min_of(version->size, limit) &&
		    is_content(found->data + start, version->blocks[block], end - start))
			return true;
		if (version->is_shrink && i - 1 <= w->known)
			limit = min_of(limit, version->size);
	}
	return wrong(r, "%s (inode %llu, %llu bytes): block %llu is not as after any request from %u to %u: "
			"%02x %02x %02x %02x ...",
	    found->name, (unsigned long long)found->attr.ino,
	    (unsigned long long)found->attr.size, (unsigned long long)block,
	    w->versions[w->recorded].request, w->versions[w->last].request,
	    found->data[start], end > start + 1 ? found->data[start + 1] : 0,
	    end > start + 2 ? found->data[start + 2] : 0,
	    end > start + 3 ? found->data[start + 3] : 0);
}

/* Of what request k left, the one that was under way may have given back some. */
static bool claims_fit(struct recovered *r, const struct found *found, const struct window *w)
{
	const bool *known = w->versions[w->known].claims, *last = w->versions[w->last].claims;
	uint64_t blocks = 0;

	for (uint32_t i = 0; known && last && i < HISTORY_CLAIMS; i++)
		blocks += known[i] && last[i];
	return found->attr.blocks >= blocks * (HISTORY_BLOCK / 512) ||
	    wrong(r, "%s: has %llu sectors, %llu blocks were allocated", found->name,
		(unsigned long long)found->attr.blocks, (unsigned long long)blocks);
}

static bool file_fits(struct recovered *r, const struct found *found, const struct node *node, uint32_t k)
{
	struct window w = window_at(node, k);
	uint64_t blocks = div_up(found->attr.size, HISTORY_BLOCK);

	if (!times_fit(r, found, &w) || !size_fits(r, found, &w) || !claims_fit(r, found, &w))
		return false;
	for (uint64_t block = 0; block < blocks; block++)
		if (!block_fits(r, found, &w, block))
			return false;
	return true;
}

static bool node_fits(struct recovered *r, const struct history *history, int node,
    const struct version *v, uint32_t k)
{
	const struct node *n = &history->nodes[node];
	const struct found *found = &r->nodes[node];

	if (!found->is_there)
		return wrong(r, "%s (inode %llu) is missing", v->name, (unsigned long long)n->ino);
	if (node != 0 && (found->parent != history->nodes[v->parent].ino ||
			     strcmp(found->name, v->name) != 0))
		return wrong(r, "inode %llu is %s in %llu, not %s in %llu",
		    (unsigned long long)n->ino, found->name, (unsigned long long)found->parent,
		    v->name, (unsigned long long)history->nodes[v->parent].ino);
	if (!plain_fits(r, found, v))
		return false;
	if (n->target)
		return strcmp(n->target, (const char *)found->data) == 0 ||
		    wrong(r, "%s: another target", v->name);
	return n->type != S_IFREG || file_fits(r, found, n, k);
}

bool recovered_fits(struct recovered *r, const struct history *history, uint32_t k)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < history->node_count; i++) {
		const struct version *version = history_at(history, (int)i, k);

		if (!version || !version->is_linked)
			continue;
		if (!node_fits(r, history, (int)i, version, k))
			return false;
		count++;
	}
	return count == r->count || wrong(r, "%u names instead of %u", r->count, count);
}

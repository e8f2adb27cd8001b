/*
 * Nodes, their versions, and shared blocks of content.  Memory is given back all at
 * once: what versions share needs no counting.
 */
#include "config.h"

#include "tests/crash/history.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"

static void *keep(struct history *history, size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (history->memory_count == history->memory_room) {
		history->memory_room = history->memory_room * 2 + 1024;
		history->memory = reallocarray(history->memory, history->memory_room,
		    sizeof(*history->memory));
	}
	ck_assert(memory && history->memory);
	history->memory[history->memory_count++] = memory;
	return memory;
}

struct history *history_create(void)
{
	struct history *history = calloc(1, sizeof(*history));
	struct version *root;

	ck_assert(history != NULL);
	history->node_count = 1;
	history->nodes[0].ino = 1;
	history->nodes[0].lookups = 1;
	history->nodes[0].type = S_IFDIR;
	root = history_change(history, 0);
	root->is_linked = true;
	root->mode = S_IFDIR | 0755;
	return history;
}

void history_destroy(struct history *history)
{
	for (uint32_t i = 0; i < history->node_count; i++)
		free(history->nodes[i].versions);
	for (uint32_t i = 0; i < history->memory_count; i++)
		free(history->memory[i]);
	free(history->memory);
	free(history);
}

const struct version *history_at(const struct history *history, int node, uint32_t k)
{
	const struct node *n = &history->nodes[node];

	for (uint32_t i = n->count; i > 0; i--)
		if (n->versions[i - 1].request <= k)
			return &n->versions[i - 1];
	return NULL;
}

struct version *history_now(struct history *history, int node)
{
	struct node *n = &history->nodes[node];

	return &n->versions[n->count - 1];
}

struct version *history_change(struct history *history, int node)
{
	struct node *n = &history->nodes[node];
	struct version *version;

	if (n->count > 0 && history_now(history, node)->request == history->request)
		return history_now(history, node);
	if (n->count == n->room) {
		n->room = n->room * 2 + 4;
		n->versions = reallocarray(n->versions, n->room, sizeof(*n->versions));
		ck_assert(n->versions != NULL);
	}
	version = &n->versions[n->count];
	if (n->count > 0)
		*version = n->versions[n->count - 1];
	else
		memset(version, 0, sizeof(*version));
	version->request = history->request;
	version->begun = history->begun;
	version->is_shrink = version->is_put = version->is_recorded = false;
	n->count++;
	return version;
}

static void count_entry(struct history *history, int parent, int node, int change)
{
	struct version *version = history_change(history, parent);

	version->entries += (uint32_t)change;
	if (history->nodes[node].type == S_IFDIR)
		version->subdirectories += (uint32_t)change;
}

int history_add(struct history *history, int parent, const char *name, uint32_t mode, const char *target)
{
	int node = (int)history->node_count++;
	struct node *n = &history->nodes[node];
	struct version *version;

	ck_assert_uint_le(history->node_count, HISTORY_NODES);
	n->type = mode & S_IFMT;
	n->lookups = 1;
	n->is_inline = true;
	version = history_change(history, node);
	version->is_linked = version->is_put = version->is_recorded = true;
	version->parent = parent;
	version->mode = mode;
	snprintf(version->name, sizeof(version->name), "%s", name);
	if (target) {
		n->target = keep(history, strlen(target) + 1);
		strcpy(n->target, target);
		version->size = strlen(target);
	}
	count_entry(history, parent, node, 1);
	return node;
}

void history_unlink(struct history *history, int node)
{
	struct version *version = history_change(history, node);

	version->is_linked = false;
	count_entry(history, version->parent, node, -1);
}

void history_move(struct history *history, int node, int parent, const char *name)
{
	struct version *version = history_change(history, node);

	count_entry(history, version->parent, node, -1);
	version->parent = parent;
	version->is_put = true;
	snprintf(version->name, sizeof(version->name), "%s", name);
	count_entry(history, parent, node, 1);
}

int history_find(struct history *history, int parent, const char *name)
{
	for (int i = 1; i < (int)history->node_count; i++) {
		const struct version *version = history_now(history, i);

		if (version->is_linked && version->parent == parent &&
		    strcmp(version->name, name) == 0)
			return i;
	}
	return -1;
}

bool history_is_below(struct history *history, int node, int above)
{
	for (; node != 0; node = history_now(history, node)->parent)
		if (node == above)
			return true;
	return above == 0;
}

/* ---- content -------------------------------------------------------------------- */

static uint8_t *copy_block(struct history *history, const uint8_t *from)
{
	uint8_t *block = keep(history, HISTORY_BLOCK);

	if (from)
		memcpy(block, from, HISTORY_BLOCK);
	return block;
}

void history_resize(struct history *history, int node, uint64_t size)
{
	struct version *version = history_change(history, node);
	uint64_t before = div_up(version->size, HISTORY_BLOCK);
	uint64_t after = div_up(size, HISTORY_BLOCK), cut = size % HISTORY_BLOCK;
	uint8_t **blocks = keep(history, (after + 1) * sizeof(*blocks));

	if (version->blocks)
		memcpy(blocks, version->blocks, min_of(before, after) * sizeof(*blocks));
	if (size < version->size && cut > 0 && blocks[after - 1]) {
		blocks[after - 1] = copy_block(history, blocks[after - 1]);
		memset(blocks[after - 1] + cut, 0, HISTORY_BLOCK - cut);
	}
	version->blocks = blocks;
	version->size = size;
}

void history_write(struct history *history, int node, uint64_t offset, const uint8_t *data, uint64_t bytes)
{
	struct version *version = history_change(history, node);
	uint64_t end = offset + bytes;

	history_resize(history, node, max_of(version->size, end));
	while (offset < end) {
		uint64_t from = offset % HISTORY_BLOCK;
		uint64_t part = min_of(end - offset, HISTORY_BLOCK - from);
		uint8_t **block = &version->blocks[offset / HISTORY_BLOCK];

		*block = copy_block(history, *block);
		memcpy(*block + from, data, part);
		data += part;
		offset += part;
	}
}

void history_zero(struct history *history, int node, uint64_t offset, uint64_t bytes)
{
	struct version *version = history_change(history, node);
	uint64_t end = min_of(offset + bytes, version->size);

	history_resize(history, node, version->size);
	while (offset < end) {
		uint64_t from = offset % HISTORY_BLOCK;
		uint64_t part = min_of(end - offset, HISTORY_BLOCK - from);
		uint8_t **block = &version->blocks[offset / HISTORY_BLOCK];

		if (*block) {
			*block = copy_block(history, *block);
			memset(*block + from, 0, part);
		}
		offset += part;
	}
}

void history_claim(struct history *history, int node, uint64_t first, uint64_t end, bool has_space)
{
	struct version *version = history_change(history, node);
	bool *claims = keep(history, HISTORY_CLAIMS * sizeof(*claims));

	if (version->claims)
		memcpy(claims, version->claims, HISTORY_CLAIMS * sizeof(*claims));
	for (uint64_t i = first; i < min_of(end, (uint64_t)HISTORY_CLAIMS); i++)
		claims[i] = has_space;
	version->claims = claims;
}

void history_print(const struct history *history, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i <= last && i <= history->request; i++) {
		const struct request *request = &history->requests[i];

		fprintf(stderr, "#   request %u, events %u to %u: %s%s\n", i,
		    request->events_before, request->events_after, request->what,
		    request->is_sync ? " (durable)" : "");
	}
}

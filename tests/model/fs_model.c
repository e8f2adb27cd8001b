#include "config.h"

#include "tests/model/fs_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void model_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
	m->nodes[0] = (struct model_node){
	    .is_used = true,
	    .is_linked = true,
	    .type = S_IFDIR,
	    .mode = S_IFDIR | 0755,
	    .parent = 0,
	    .ino = 1,
	    .lookups = 1,
	};
}

void model_fini(struct model *m)
{
	for (int i = 0; i < MODEL_NODES; i++)
		free(m->nodes[i].data);
	memset(m, 0, sizeof(*m));
}

void model_copy(struct model *to, const struct model *from)
{
	model_fini(to);
	*to = *from;
	for (int i = 0; i < MODEL_NODES; i++) {
		if (!from->nodes[i].data)
			continue;
		to->nodes[i].data = malloc(from->nodes[i].capacity);
		memcpy(to->nodes[i].data, from->nodes[i].data, from->nodes[i].size);
	}
}

int model_find(const struct model *m, int dir, const char *name)
{
	for (int i = 1; i < MODEL_NODES; i++)
		if (m->nodes[i].is_used && m->nodes[i].is_linked &&
		    m->nodes[i].parent == dir && strcmp(m->nodes[i].name, name) == 0)
			return i;
	return -1;
}

static void release(struct model *m, int node)
{
	struct model_node *n = &m->nodes[node];

	if (n->is_linked || n->lookups > 0)
		return;
	free(n->data);
	memset(n, 0, sizeof(*n));
}

static void unlink_node(struct model *m, int node)
{
	struct model_node *n = &m->nodes[node];

	m->nodes[n->parent].entries--;
	if (n->type == S_IFDIR)
		m->nodes[n->parent].subdirectories--;
	n->is_linked = false;
	release(m, node);
}

void model_forget(struct model *m, int node)
{
	m->nodes[node].lookups = 0;
	release(m, node);
}

int model_create(struct model *m, int dir, const char *name, uint32_t mode, const char *target)
{
	int node = 1;
	struct model_node *n;

	if (m->nodes[dir].type != S_IFDIR)
		return -ENOTDIR;
	if (!m->nodes[dir].is_linked)
		return -ENOENT;
	if (model_find(m, dir, name) >= 0)
		return -EEXIST;
	while (node < MODEL_NODES && m->nodes[node].is_used)
		node++;
	if (node == MODEL_NODES)
		return -ENFILE;
	n = &m->nodes[node];
	*n = (struct model_node){
	    .is_used = true,
	    .is_linked = true,
	    .type = mode & S_IFMT,
	    .mode = mode,
	    .parent = dir,
	    .lookups = 1,
	};
	strcpy(n->name, name);
	m->nodes[dir].entries++;
	if (n->type == S_IFDIR)
		m->nodes[dir].subdirectories++;
	if (target)
		model_write(m, node, 0, target, strlen(target));
	return node;
}

static int check_dir(const struct model *m, int dir)
{
	if (m->nodes[dir].type != S_IFDIR)
		return -ENOTDIR;
	return m->nodes[dir].is_linked ? 0 : -ENOENT;
}

int model_unlink(struct model *m, int dir, const char *name)
{
	int node, err = check_dir(m, dir);

	if (err < 0)
		return err;
	node = model_find(m, dir, name);
	if (node < 0)
		return -ENOENT;
	if (m->nodes[node].type == S_IFDIR)
		return -EISDIR;
	unlink_node(m, node);
	return 0;
}

int model_rmdir(struct model *m, int dir, const char *name)
{
	int node, err = check_dir(m, dir);

	if (err < 0)
		return err;
	node = model_find(m, dir, name);
	if (node < 0)
		return -ENOENT;
	if (m->nodes[node].type != S_IFDIR)
		return -ENOTDIR;
	if (m->nodes[node].entries > 0)
		return -ENOTEMPTY;
	unlink_node(m, node);
	return 0;
}

static bool is_below(const struct model *m, int node, int above)
{
	for (; node != 0; node = m->nodes[node].parent)
		if (node == above)
			return true;
	return above == 0;
}

static int check_target(const struct model *m, int source, int target, bool no_replace)
{
	if (target < 0)
		return 0;
	if (no_replace)
		return -EEXIST;
	if (m->nodes[source].type == S_IFDIR && m->nodes[target].type != S_IFDIR)
		return -ENOTDIR;
	if (m->nodes[source].type != S_IFDIR && m->nodes[target].type == S_IFDIR)
		return -EISDIR;
	return m->nodes[target].entries > 0 ? -ENOTEMPTY : 0;
}

int model_rename(struct model *m, int from, const char *name, int to, const char *new_name,
    bool no_replace)
{
	int source, target, err;

	if (m->nodes[from].type != S_IFDIR || m->nodes[to].type != S_IFDIR)
		return -ENOTDIR;
	if (!m->nodes[from].is_linked || !m->nodes[to].is_linked)
		return -ENOENT;
	source = model_find(m, from, name);
	if (source < 0)
		return -ENOENT;
	target = model_find(m, to, new_name);
	if (source == target)
		return no_replace ? -EEXIST : 0;
	if (m->nodes[source].type == S_IFDIR && is_below(m, to, source))
		return -EINVAL;
	err = check_target(m, source, target, no_replace);
	if (err < 0)
		return err;
	if (target >= 0)
		unlink_node(m, target);
	m->nodes[from].entries--;
	m->nodes[to].entries++;
	if (m->nodes[source].type == S_IFDIR) {
		m->nodes[from].subdirectories--;
		m->nodes[to].subdirectories++;
	}
	m->nodes[source].parent = to;
	strcpy(m->nodes[source].name, new_name);
	return 0;
}

void model_resize(struct model *m, int node, size_t size)
{
	struct model_node *n = &m->nodes[node];

	if (size > n->capacity) {
		n->capacity = size * 2 + 64;
		n->data = realloc(n->data, n->capacity);
	}
	if (size > n->size)
		memset(n->data + n->size, 0, size - n->size);
	n->size = size;
}

void model_write(struct model *m, int node, size_t offset, const void *data, size_t bytes)
{
	if (offset + bytes > m->nodes[node].size)
		model_resize(m, node, offset + bytes);
	memcpy(m->nodes[node].data + offset, data, bytes);
}

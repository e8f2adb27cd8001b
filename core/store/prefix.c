/*
 * Guards on all keys that begin with a prefix.
 *
 * Such a guard asks about keys that are not there, of which no single frame can tell.
 * So a batch that has one passes the gate exclusively: from the question to the change
 * nobody else changes anything.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>

/* 1: no key begins with the prefix; 0: some do. */
static int is_empty(struct store *store, struct tree_run *run, const struct prefix_guard *guard,
    struct tree_need *need)
{
	const struct tree_item *item = &run->items[0];
	int err = tree_scan(&store->tree, true, guard->prefix, guard->prefix_bytes, false, run, need);

	if (err == -ENOENT)
		return 1;
	if (err)
		return err;
	return item->key_bytes < guard->prefix_bytes ||
	       memcmp(run->bytes.bytes + item->key_offset, guard->prefix, guard->prefix_bytes) != 0;
}

int batch_check_prefixes(struct store *store, struct store_batch *batch, uint32_t *ret_failed,
    int *ret_error, struct tree_need *need)
{
	struct tree_run *run;
	int err = 0;

	*ret_failed = UINT32_MAX;
	*ret_error = 0;
	if (batch->prefix_guard_count == 0)
		return 0;
	run = malloc(sizeof(*run));
	if (!run)
		return -ENOMEM;
	for (uint32_t i = 0; i < batch->prefix_guard_count && err >= 0; i++) {
		const struct prefix_guard *guard = &batch->prefix_guards[i];

		tree_run_init(run);
		err = is_empty(store, run, guard, need);
		tree_run_fini(run);
		if (err < 0 || err == !guard->is_present)
			continue;
		*ret_failed = guard->number;
		*ret_error = guard->is_present ? -ENOENT : -ENOTEMPTY;
		break;
	}
	free(run);
	return min_of(err, 0);
}

uint32_t batch_guard_number(const struct store_batch *batch, uint32_t edit)
{
	uint32_t number = edit;

	for (uint32_t i = 0; i < batch->prefix_guard_count; i++)
		if (batch->prefix_guards[i].number <= number)
			number++;
	return number;
}

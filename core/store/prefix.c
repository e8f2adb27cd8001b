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

static bool is_erased(const struct store_batch *batch, const struct tree_scan *scan)
{
	for (uint32_t i = 0; i < batch->tx.edit_count; i++) {
		const struct tree_edit *edit = &batch->tx.edits[i];

		if (edit->kind == TREE_ERASE && edit->key_bytes == scan->key.used &&
		    memcmp(edit->key, scan->key.bytes, edit->key_bytes) == 0)
			return true;
	}
	return false;
}

/* 1: no key begins with the prefix, but those that the batch itself erases; 0: some do. */
static int is_empty(struct tree_scan *scan, const struct store_batch *batch,
    const struct prefix_guard *guard, struct tree_need *need)
{
	struct tree_range range = {
	    .prefix = guard->prefix, .prefix_bytes = guard->prefix_bytes, .keys_only = true};
	int err = tree_scan_seek(scan, &range);

	while (!err) {
		err = tree_scan_run(scan, true, 1, need);
		if (err)
			break;
		tree_scan_take(scan, &scan->items[0]);
		if (guard->is_present || !is_erased(batch, scan))
			return 0;
	}
	return err == -ENOENT ? 1 : err;
}

int batch_check_prefixes(struct store *store, struct store_batch *batch, uint32_t *ret_failed,
    int *ret_error, struct tree_need *need)
{
	struct tree_scan scan;
	int err = 0;

	*ret_failed = UINT32_MAX;
	*ret_error = 0;
	if (batch->prefix_guard_count == 0)
		return 0;
	tree_scan_init(&scan, &store->tree);
	for (uint32_t i = 0; i < batch->prefix_guard_count && err >= 0; i++) {
		const struct prefix_guard *guard = &batch->prefix_guards[i];

		err = is_empty(&scan, batch, guard, need);
		if (err < 0 || err == !guard->is_present)
			continue;
		*ret_failed = guard->number;
		*ret_error = guard->is_present ? -ENOENT : -ENOTEMPTY;
		break;
	}
	tree_scan_fini(&scan);
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

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

/* 1: no key begins with the prefix; 0: some do. */
static int is_empty(struct tree_scan *scan, const struct prefix_guard *guard, struct tree_need *need)
{
	struct tree_range range = {
	    .prefix = guard->prefix, .prefix_bytes = guard->prefix_bytes, .keys_only = true};
	int err = tree_scan_seek(scan, &range);

	if (!err)
		err = tree_scan_run(scan, true, 1, need);
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

		err = is_empty(&scan, guard, need);
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

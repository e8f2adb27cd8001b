/*
 * Views: the store's, narrowed to a prefix.
 *
 * A key that does not begin with the view's prefix is -EDOM, there or not; so is a range
 * whose prefix leads out of it.  A range without a prefix has the view's.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct holt_view {
	struct holt *holt;
	struct store_view *view;
	uint32_t prefix_bytes;
	uint8_t prefix[];
};

int holt_view_open(struct holt *holt, const void *prefix, size_t prefix_bytes, struct holt_view **ret)
{
	struct holt_view *view;
	int err;

	if (!holt || !ret || (!prefix && prefix_bytes))
		return -EINVAL;
	if (prefix_bytes > JOURNAL_RECORD_MAX / 2)
		return -ENAMETOOLONG;
	view = malloc(sizeof(*view) + prefix_bytes);
	if (!view)
		return -ENOMEM;
	err = store_view_open(holt->store, &view->view);
	if (err) {
		free(view);
		return err;
	}
	view->holt = holt;
	view->prefix_bytes = (uint32_t)prefix_bytes;
	if (prefix_bytes)
		memcpy(view->prefix, prefix, prefix_bytes);
	*ret = view;
	return 0;
}

void holt_view_close(struct holt_view *view)
{
	if (!view)
		return;
	store_view_close(view->view);
	free(view);
}

static bool is_inside(const struct holt_view *view, const void *key, size_t key_bytes)
{
	return key_bytes >= view->prefix_bytes &&
	       (view->prefix_bytes == 0 || memcmp(key, view->prefix, view->prefix_bytes) == 0);
}

int holt_view_get(struct holt_view *view, const void *key, size_t key_bytes, void *value,
    size_t capacity, size_t *ret_bytes, uint64_t *ret_version)
{
	uint32_t bytes;
	uint64_t version;
	uint8_t nothing;
	int err = holt_check_key(key, key_bytes);

	if (!err && (!view || (!value && capacity)))
		err = -EINVAL;
	if (err)
		return err;
	if (!is_inside(view, key, key_bytes))
		return -EDOM;
	err = store_view_get(view->view, key, (uint32_t)key_bytes, value ? value : &nothing,
	    (uint32_t)min_of(capacity, (size_t)HOLT_VALUE_MAX), &bytes, &version);
	if (err && err != -ERANGE)
		return err;
	if (ret_bytes)
		*ret_bytes = bytes;
	if (ret_version)
		*ret_version = version;
	return err;
}

int holt_view_is_prefix_empty(struct holt_view *view, const void *prefix, size_t prefix_bytes)
{
	if (!view || (!prefix && prefix_bytes))
		return -EINVAL;
	if (prefix_bytes > JOURNAL_RECORD_MAX / 2)
		return -ENAMETOOLONG;
	if (!is_inside(view, prefix, prefix_bytes))
		return -EDOM;
	return store_view_is_prefix_empty(view->view, prefix, (uint32_t)prefix_bytes);
}

static int check_range(const struct holt_view *view, const struct holt_range *range,
    struct store_range *ret)
{
	int err = holt_check_range(range, ret);

	if (err)
		return err;
	if (ret->prefix_bytes == 0) {
		ret->prefix = view->prefix;
		ret->prefix_bytes = view->prefix_bytes;
	}
	return is_inside(view, ret->prefix, ret->prefix_bytes) ? 0 : -EDOM;
}

int holt_view_visit(struct holt_view *view, const struct holt_range *range, size_t limit,
    int (*visit)(void *ctx, const struct holt_item *item), void *ctx)
{
	struct holt_visitor visitor = {.visit = visit, .ctx = ctx};
	struct store_range checked;
	int err = view && visit ? check_range(view, range, &checked) : -EINVAL;

	if (err)
		return err;
	count(&view->holt->counters.walks);
	return store_view_visit_runs(view->view, &checked, limit, holt_show_run, &visitor);
}

int holt_view_cursor_open(struct holt_view *view, const struct holt_range *range,
    struct holt_cursor **ret)
{
	struct holt_cursor *cursor;
	struct store_range checked;
	int err = view && ret ? check_range(view, range, &checked) : -EINVAL;

	if (err)
		return err;
	cursor = malloc(sizeof(*cursor));
	if (!cursor)
		return -ENOMEM;
	cursor->holt = NULL;
	err = store_view_cursor_open(view->view, &checked, &cursor->keys);
	if (err) {
		free(cursor);
		return err;
	}
	count(&view->holt->counters.walks);
	*ret = cursor;
	return 0;
}

/*
 * Listing objects of a bucket as object stores do: a prefix, a delimiter, pages.
 *
 * The last line of a page is where the next one starts, be it an object or a common
 * prefix.  The store is in memory.
 */
#include <holt.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PAGE_LINES 3

struct page {
	char last[256];
	size_t last_bytes;
	unsigned lines;
};

static int print_line(void *ctx, const struct holt_item *item)
{
	struct page *page = ctx;

	printf("  %s %.*s\n", item->is_prefix ? "prefix" : "object", (int)item->key_bytes,
	    (const char *)item->key);
	if (item->key_bytes > sizeof(page->last))
		return -ENAMETOOLONG;
	memcpy(page->last, item->key, item->key_bytes);
	page->last_bytes = item->key_bytes;
	page->lines++;
	return 0;
}

static int list(struct holt *holt, const char *prefix)
{
	struct page page = {.lines = PAGE_LINES};
	int err = 0;

	for (unsigned number = 1; !err && page.lines == PAGE_LINES; number++) {
		struct holt_range range = {
		    .prefix = prefix,
		    .prefix_bytes = strlen(prefix),
		    .start = page.last,
		    .start_bytes = page.last_bytes,
		    .is_after = true,
		    .has_delimiter = true,
		    .delimiter = '/',
		    .flags = HOLT_KEYS_ONLY,
		};

		printf("%s, page %u\n", prefix, number);
		page.lines = 0;
		err = holt_visit(holt, &range, PAGE_LINES, print_line, &page);
	}
	return err;
}

struct bucket {
	unsigned next;
	char key[64], value[64];
};

/* Items in ascending order load fastest. */
static int next_object(void *ctx, const void **key, size_t *key_bytes, const void **value,
    size_t *value_bytes)
{
	struct bucket *bucket = ctx;
	unsigned number = bucket->next++;

	if (number == 700)
		return 0;
	*key = bucket->key;
	*key_bytes = (size_t)sprintf(bucket->key, "photos/%u/%03u.jpg", 2019 + number / 100, number);
	*value = bucket->value;
	*value_bytes = (size_t)sprintf(bucket->value, "size %u", number * 1000);
	return 1;
}

static int run(struct holt *holt)
{
	struct bucket bucket = {.next = 0};
	int err = holt_load(holt, next_object, &bucket);

	if (!err)
		err = holt_put(holt, "photos/index.html", 17, "size 10", 7);
	if (!err)
		err = list(holt, "photos/");
	if (!err)
		err = list(holt, "photos/2025/69");
	return err;
}

int main(void)
{
	struct holt *holt;
	int err = holt_open_memory(NULL, &holt);

	if (!err) {
		err = run(holt);
		holt_close(holt);
	}
	if (err)
		fprintf(stderr, "%s\n", strerror(-err));
	return err != 0;
}

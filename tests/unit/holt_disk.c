/* The device in memory and the short calls of the tests of holt.h. */
#include "config.h"

#include "tests/unit/test_holt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

#define DISK_BYTES (64u << 20)

struct holt *holt;
struct holt_disk disk;

static int disk_read(void *ctx, uint64_t offset, void *memory, size_t bytes)
{
	disk.reads++;
	memcpy(memory, disk.bytes + offset, bytes);
	return 0;
}

/* Counts down to 1, then stays there. */
static bool is_due(_Atomic uint64_t *at)
{
	if (*at > 1)
		(*at)--;
	else if (*at == 1)
		return true;
	return false;
}

static int disk_write(void *ctx, uint64_t offset, const void *memory, size_t bytes)
{
	disk.writes++;
	if (is_due(&disk.fail_write_at))
		return -EIO;
	memcpy(disk.bytes + offset, memory, bytes);
	return 0;
}

static int disk_flush(void *ctx)
{
	disk.flushes++;
	return is_due(&disk.fail_flush_at) ? -EIO : 0;
}

static int disk_discard(void *ctx, uint64_t offset, uint64_t bytes)
{
	disk.discards++;
	memset(disk.bytes + offset, 0xd5, bytes);
	return 0;
}

static void disk_close(void *ctx)
{
	disk.closes++;
}

const struct holt_device disk_device = {
    .bytes = DISK_BYTES,
    .read = disk_read,
    .write = disk_write,
    .flush = disk_flush,
    .discard = disk_discard,
    .close = disk_close,
};

struct holt_options disk_options = {
    .struct_bytes = sizeof(struct holt_options),
    .flags = HOLT_CREATE | HOLT_NO_THREADS,
    .cache_bytes = 8 << 20,
};

void holt_setup(void)
{
	support_log_to_stderr();
	disk.bytes = calloc(1, DISK_BYTES);
	ck_ok(holt_open_device(&disk_device, &disk_options, &holt));
}

void holt_teardown(void)
{
	ck_ok(holt_close(holt));
	holt = NULL;
	free(disk.bytes);
	disk = (struct holt_disk){0};
}

void holt_reopen(void)
{
	ck_ok(holt_close(holt));
	ck_ok(holt_open_device(&disk_device, &disk_options, &holt));
}

int put(const char *key, const char *value)
{
	return holt_put(holt, key, strlen(key), value, strlen(value));
}

int get_is(const char *key, const char *value)
{
	char text[256];
	size_t bytes;
	int err = holt_get(holt, key, strlen(key), text, sizeof(text), &bytes, NULL);

	if (err)
		return err;
	return bytes != strlen(value) || memcmp(text, value, bytes) != 0;
}

bool is_there(const char *key)
{
	int err = holt_get_version(holt, key, strlen(key), NULL);

	ck_assert(err == 0 || err == -ENOENT);
	return err == 0;
}

uint64_t version_of(const char *key)
{
	uint64_t version;

	ck_ok(holt_get_version(holt, key, strlen(key), &version));
	return version;
}

static char listing[65536];

static int add_item(void *ctx, const struct holt_item *item)
{
	size_t used = strlen(listing);

	ck_assert_uint_lt(used + item->key_bytes + item->value_bytes + 4, sizeof(listing));
	sprintf(listing + used, "%s%.*s%s%.*s", used ? " " : "", (int)item->key_bytes,
	    (const char *)item->key, item->value ? "=" : "", (int)item->value_bytes,
	    item->value ? (const char *)item->value : "");
	return 0;
}

const char *list(const struct holt_range *range, size_t limit)
{
	listing[0] = '\0';
	ck_ok(holt_visit(holt, range, limit, add_item, NULL));
	return listing;
}

const char *list_all(void)
{
	return list(NULL, 0);
}

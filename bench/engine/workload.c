/*
 * Keys and values of the three workloads, made from an index by arithmetic alone.
 *
 *	index = dir * dir_keys + file
 *
 * so keys of one directory are next to each other in the order of indexes.
 */
#include "config.h"

#include "bench/engine/workload.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define SEED 0xdeadbeefcafebabeull

static void random_bytes(uint64_t seed, uint8_t *ret, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 8) {
		uint64_t word = mix_bits(seed += 0x9e3779b97f4a7c15ull);

		memcpy(ret + i, &word, 8);
	}
}

static size_t kv_value(uint64_t dir, uint64_t file, uint64_t revision, uint8_t *ret)
{
	random_bytes(~SEED ^ mix_bits(file), ret, 64);
	memcpy(ret, &revision, sizeof(revision));
	return 64;
}

static uint8_t *put_decimal(uint8_t *to, uint64_t number, unsigned digits)
{
	for (unsigned i = digits; i > 0; i--) {
		to[i - 1] = (uint8_t)('0' + number % 10);
		number /= 10;
	}
	return to + digits;
}

static uint8_t *put_text(uint8_t *to, const char *text)
{
	size_t bytes = strlen(text);

	memcpy(to, text, bytes);
	return to + bytes;
}

static size_t object_value(uint64_t dir, uint64_t file, uint64_t revision, uint8_t *ret)
{
	static const char hex[] = "0123456789abcdef";
	uint64_t etag = dir * 1000 + file;
	uint8_t *to = put_text(ret, "{\"size\":");

	to = put_decimal(to, (file * 1000 + dir * 100 + revision) % 100000000, 8);
	to = put_text(to, ",\"etag\":\"");
	for (int shift = 28; shift >= 0; shift -= 4)
		*to++ = (uint8_t)hex[etag >> shift & 15];
	to = put_text(to, "\",\"class\":\"STD\"}");
	return (size_t)(to - ret);
}

static size_t inode_value(uint64_t dir, uint64_t file, uint64_t revision, uint8_t *ret)
{
	struct {
		uint64_t size, mtime;
		uint32_t mode, uid, gid, nlink;
	} inode = {
	    .size = htole64(file * 1024 + revision),
	    .mtime = htole64(1700000000 + file),
	    .mode = htole32(0644),
	    .uid = htole32(1000),
	    .gid = htole32(1000),
	    .nlink = htole32(1),
	};

	memcpy(ret, &inode, sizeof(inode));
	return sizeof(inode);
}

const struct workload workloads[] = {
    {.name = "fs",
	.root = "/usr/local/share/",
	.dir = "/usr/local/share/category-",
	.inner = "file-",
	.suffix = "",
	.dirs = 16,
	.many_dirs = 512,
	.dir_digits = 1,
	.value = inode_value},
    {.name = "objstore",
	.root = "bucket-",
	.dir = "bucket-",
	.inner = "path/sub/file-",
	.suffix = ".bin",
	.dirs = 32,
	.many_dirs = 256,
	.dir_digits = 2,
	.value = object_value},
    {.name = "kv", .dirs = 1, .many_dirs = 1, .value = kv_value},
};
const unsigned workload_count = ARRAY_COUNT(workloads);

void key_space_init(struct key_space *space, const struct workload *workload, uint64_t keys)
{
	bool is_many = keys >= KEYS_MANY;

	*space = (struct key_space){.workload = workload, .keys = keys};
	space->dirs = is_many ? workload->many_dirs : workload->dirs;
	space->dir_keys = div_up(keys, space->dirs);
	space->dir_digits = is_many ? 3 : workload->dir_digits;
	space->file_digits = is_many ? 8 : space->dir_keys > 9999 ? 6 : 4;
}

static uint8_t *put_dir(const struct key_space *space, uint64_t dir, uint8_t *to)
{
	unsigned digits = dir > 9 && space->dir_digits < 2 ? 2 : space->dir_digits;

	to = put_decimal(put_text(to, space->workload->dir), dir, digits);
	*to++ = '/';
	return to;
}

size_t dir_at(const struct key_space *space, uint64_t dir, void *ret)
{
	return (size_t)(put_dir(space, dir, ret) - (uint8_t *)ret);
}

size_t key_at(const struct key_space *space, uint64_t index, void *ret)
{
	uint8_t *to = ret;

	if (!space->workload->root) {
		random_bytes(SEED ^ mix_bits(index), ret, 32);
		return 32;
	}
	to = put_dir(space, index / space->dir_keys, to);
	to = put_text(to, space->workload->inner);
	to = put_decimal(to, index % space->dir_keys, space->file_digits);
	to = put_text(to, space->workload->suffix);
	return (size_t)(to - (uint8_t *)ret);
}

size_t value_at(const struct key_space *space, uint64_t index, uint64_t revision, void *ret)
{
	return space->workload->value(index / space->dir_keys, index % space->dir_keys,
	    revision, ret);
}

size_t scratch_key(const struct key_space *space, const char *name, unsigned thread, void *ret)
{
	const struct workload *workload = space->workload;
	uint8_t *to = ret;

	if (workload->root)
		to = put_dir(space, space->dirs - 1 - thread, to);
	to = put_text(put_text(to, "__holt_"), name);
	to = put_decimal(put_text(to, "__"), thread, 2);
	if (workload->root)
		to = put_text(to, workload->suffix);
	return (size_t)(to - (uint8_t *)ret);
}

/*
 * A Feistel network on the next even power of two, walked until it lands below @count
 * (Black, Rogaway: Ciphers with arbitrary finite domains, CT-RSA 2002).
 */
uint64_t shuffled(uint64_t index, uint64_t count)
{
	unsigned half = 1;

	while (count > 1ull << 2 * half)
		half++;
	do {
		uint64_t left = index >> half, right = index & (BIT(half) - 1);

		for (unsigned round = 0; round < 4; round++) {
			uint64_t next = left ^ (mix_bits(right + SEED + round) & (BIT(half) - 1));

			left = right;
			right = next;
		}
		index = left << half | right;
	} while (index >= count);
	return index;
}

/*
 * The three sets of keys and values, and random numbers.
 *
 *	kv	 32 random bytes -> 64 random bytes
 *	objstore bucket-%02d/path/sub/file-%04d.bin -> {"size":..,"etag":..,"class":"STD"}
 *	fs	 /usr/local/share/category-%d/file-%04d -> 32 bytes, an inode's
 *
 * Numbers have more digits where there are more keys.  A key is made from its index, so
 * that drawing one costs no look-up in a table that would push the engines' data out of
 * the processor's caches.
 */
#ifndef BENCH_ENGINE_WORKLOAD_H
#define BENCH_ENGINE_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct workload {
	const char *name;
	const char *root;    /* what all directories lie in; NULL: keys are no paths */
	const char *dir;     /* goes before a directory's number */
	const char *inner;   /* between the directory and the file */
	const char *suffix;  /* behind the file's number */
	unsigned dirs, many_dirs; /* up to and from KEYS_MANY keys */
	unsigned dir_digits;	  /* at least */
	/* Revisions of a value differ in their first half alone. */
	size_t (*value)(uint64_t dir, uint64_t file, uint64_t revision, uint8_t *ret);
};

#define KEYS_MANY 20000000ull

/* A workload of some size. */
struct key_space {
	const struct workload *workload;
	uint64_t keys, dirs, dir_keys;
	unsigned dir_digits, file_digits;
};

extern const struct workload workloads[];
extern const unsigned workload_count;

void key_space_init(struct key_space *space, const struct workload *workload, uint64_t keys);

/* Each returns the length. */
size_t key_at(const struct key_space *space, uint64_t index, void *ret);
size_t value_at(const struct key_space *space, uint64_t index, uint64_t revision, void *ret);
size_t dir_at(const struct key_space *space, uint64_t dir, void *ret); /* with its '/' */

/* Keys of no index, in the last directory. */
size_t scratch_key(const struct key_space *space, const char *name, unsigned thread, void *ret);

/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
 * OOPSLA 2014). */
struct bench_random {
	uint64_t state;
};

static inline uint64_t mix_bits(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint64_t random_next(struct bench_random *random)
{
	random->state += 0x9e3779b97f4a7c15ull;
	return mix_bits(random->state);
}

/* Below @bound, which is less than 2^32. */
static inline uint64_t random_below(struct bench_random *random, uint64_t bound)
{
	return (random_next(random) >> 32) * bound >> 32;
}

/* A permutation of [0, count): @index's place in an order that is random but fixed. */
uint64_t shuffled(uint64_t index, uint64_t count);

#endif

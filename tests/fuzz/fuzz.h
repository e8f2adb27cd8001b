/*
 * What fuzz targets share.  A target is one file with LLVMFuzzerTestOneInput(): libFuzzer
 * calls it with inputs that it makes up (make fuzz), replay.c with those that are kept in
 * tests/fuzz/corpus (make check).
 *
 * An input is a program of single bytes: which call, which key, which byte to change.
 * Nothing of it is a copy of what lies on disk, so inputs stay good when formats change.
 */
#ifndef HOLTFS_TESTS_FUZZ_H
#define HOLTFS_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct device;
struct store;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* States a fact about what the target does; if it is not one, the input is a find. */
#define FUZZ_CHECK(cond)                                                              \
	do {                                                                          \
		if (!(cond)) {                                                        \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                      \
		}                                                                     \
	} while (0)

/* ---- inputs ------------------------------------------------------------------------- */

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

/* Behind the end: zeros. */
static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->at++;
}

static inline uint32_t fuzz_number(struct fuzz_input *input, unsigned bytes)
{
	uint32_t number = 0;

	for (unsigned i = 0; i < bytes; i++)
		number = number << 8 | fuzz_byte(input);
	return number;
}

/* The next @bytes, or as many as there are. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *input, size_t bytes, size_t *ret_bytes)
{
	const uint8_t *at = input->at;

	*ret_bytes = bytes < input->left ? bytes : input->left;
	input->at += *ret_bytes;
	input->left -= *ret_bytes;
	return at;
}

/* ---- a disk ------------------------------------------------------------------------- */

/*
 * Memory that is a volume.  It is filled once and then frozen; for each input it becomes
 * again what it was then, at the cost of the blocks that were written to.
 */
struct fuzz_disk {
	uint8_t *memory;
	uint64_t bytes;
	bool is_dead;	 /* writes fail from now on; fuzz_disk_renew() cures it */
	uint8_t *frozen; /* NULL: not yet */
	uint8_t *is_changed; /* a byte a block */
};

void fuzz_disk_make(struct fuzz_disk *disk, uint64_t bytes);
void fuzz_disk_freeze(struct fuzz_disk *disk);
void fuzz_disk_renew(struct fuzz_disk *disk);

/* For who writes to its memory: @bytes, not 0, are about to change there. */
void fuzz_disk_touch(struct fuzz_disk *disk, const void *at, uint64_t bytes);

/* As a device does, into and from its memory. */
int fuzz_disk_read(void *disk, uint64_t offset, void *memory, size_t bytes);
int fuzz_disk_write(void *disk, uint64_t offset, const void *memory, size_t bytes);
int fuzz_disk_flush(void *disk);

/* A device on it; closing it leaves the disk alone. */
struct device *fuzz_disk_device(struct fuzz_disk *disk);

/* ---- stores --------------------------------------------------------------------------- */

#define FUZZ_CACHE_BYTES (8u << 20)

/* An empty store, on a disk of its own. */
void fuzz_store_format(struct fuzz_disk *disk, uint64_t bytes);

/* Without threads and with the smallest cache; NULL if it does not open. */
struct store *fuzz_store_open(struct fuzz_disk *disk);

/* A key of a few letters and slashes, at most this long. */
#define FUZZ_KEY_BYTES 12
uint32_t fuzz_key(struct fuzz_input *input, uint8_t *ret);

/* One call of store.h, whatever it answers; it is one of those that change something or
 * of those that do not.  At most a few hundred a store. */
void fuzz_store_call(struct store *store, struct fuzz_input *input);

/* Asks the store for everything it has. */
void fuzz_store_read(struct store *store);

#endif

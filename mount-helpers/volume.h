/*
 * The file or block device that a tool is about to work on: is it there, what does
 * it hold, who uses it, how large is it.
 *
 * Every function that fails has said why on standard error, in one line that names
 * the volume.
 */
#ifndef HOLTFS_MOUNT_HELPERS_VOLUME_H
#define HOLTFS_MOUNT_HELPERS_VOLUME_H

#include <stdbool.h>
#include <stdint.h>

struct device;

struct volume {
	const char *path;
	uint64_t bytes;	      /* as it is now */
	bool is_block_device;
	bool is_new;	      /* made by volume_prepare(): volume_discard() removes it */
};

/*
 * Finds out what @path is, and makes it ready to be formatted: an absent file is
 * created (@bytes must be given), a file is given the size @bytes (0: as it is).
 * Refuses what is too small or too large, in use, mounted, or holds anything it
 * knows; @is_forced overrides the mount table and what it holds, never a user that
 * the kernel knows of.  On success the volume is open and locked.
 */
int volume_prepare(const char *path, uint64_t bytes, bool is_forced,
    struct volume *ret_volume, struct device **ret_device);

/* Removes what volume_prepare() created; changes nothing else. */
void volume_discard(const struct volume *volume);

/* Makes the name of a volume that was created survive a power loss. */
int volume_sync_name(const struct volume *volume);

/* Opens an existing volume for reading. */
int volume_open_for_check(const char *path, struct device **ret_device);

/* One line on what an error of opening or formatting a volume means for its user. */
const char *volume_explain(int err);

#endif

/*
 * The command line of holtfs, taken apart.  Pure: reads nothing but its arguments,
 * prints nothing; what is wrong comes back as a line for the user.
 */
#ifndef HOLTFS_FUSE_OPTIONS_H
#define HOLTFS_FUSE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

struct options {
	const char *volume; /* as given, from argv */
	const char *mountpoint;
	bool is_foreground;
	bool is_debug; /* says every request; implies is_foreground */
	bool wants_help;
	bool wants_version;

	bool is_read_only;
	bool has_allow_other;
	bool has_no_atime;
	enum device_io io;
	uint32_t commit_interval_ms; /* 0: the file layer's default */
	uint64_t cache_bytes;	     /* 0: the store's default */
	uint32_t max_background;

	char *source;	    /* fsname=, NULL: the volume's path */
	char *kernel_flags; /* "nosuid,noexec": for mount(2), in the order given */
};

#define OPTIONS_CACHE_MIN      (8ull * 1024 * 1024)
#define OPTIONS_COMMIT_MAX_MS  (3600u * 1000)
#define OPTIONS_MAX_BACKGROUND 64u /* when not given */

/*
 * 0, or -EINVAL with a line in @message, or -ENOMEM.  With wants_help or
 * wants_version the rest is not checked.  options_fini() in every case.
 */
int options_parse(
    int argc, char **argv, struct options *ret, char *message, size_t message_bytes);
void options_fini(struct options *options);

extern const char options_usage[];

#endif

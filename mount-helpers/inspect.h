/*
 * What a file or block device holds and who uses it: questions that the kernel,
 * libblkid and libmount answer.  Nothing here changes anything but inspect_wipe().
 */
#ifndef HOLTFS_MOUNT_HELPERS_INSPECT_H
#define HOLTFS_MOUNT_HELPERS_INSPECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define INSPECT_TEXT 512

/*
 * Who uses @path, as the end of a sentence that begins with it: "is mounted on
 * /mnt; unmount it first".  False: nobody that mount table or loop devices know.
 */
bool inspect_user(const char *path, const struct stat *st, char text[INSPECT_TEXT]);

/*
 * What lies on the volume open at @fd, likewise: "holds an ext4 file system".  For a
 * regular file bytes that nobody knows count too.  1: something; 0: nothing;
 * negative: it could not be read.
 */
int inspect_contents(int fd, const struct stat *st, char text[INSPECT_TEXT]);

/* Erases every signature that libblkid knows. */
int inspect_wipe(int fd);

#endif

/* Going to the background, with an answer for whoever waits for the command. */
#ifndef HOLTFS_FUSE_BACKGROUND_H
#define HOLTFS_FUSE_BACKGROUND_H

/*
 * Returns in a child, with the descriptor for background_ready(), or -errno in the
 * only process there is.  The parent waits and ends: with 0 when the child is
 * ready, else with the child's exit status.
 */
int background_enter(void);

/* Lets go of terminal, directory and standard streams; messages go to syslog from
 * here on.  Then lets the parent end.  Closes @fd. */
void background_ready(int fd);

#endif

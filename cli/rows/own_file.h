/*
 * own_file: open files for writing, such that nobody else decides which file that is.
 *
 * A name in a folder that others can write to may be a link that somebody has put there. A new file
 * is therefore made with O_EXCL, which follows no link; one that is gone on with must be a file
 * that this user has made; and what is neither is a device or a pipe that the user has named on
 * purpose.
 */
#ifndef OWN_FILE_H
#define OWN_FILE_H

#include <stdbool.h>
#include <sys/types.h>

/* Open a file that is there, to go on with it. It must be a regular file of this user's with no
 * other name, and no symbolic link. -1 with errno set, and *why is then what to say of it. */
int open_own_file(const char *path, int flags, const char **why);

/* Open what is there and no regular file: a device, a pipe, a socket's other end. What `path` names
 * may be a link, as /dev/stdout is. -1 with errno set; EEXIST: it has become a regular file. */
int open_device(const char *path, int flags);

/* Make a file in place of one of the same name that an earlier run of ours may have left. */
int replace_own_file(const char *path, int flags, mode_t mode);

/* Is what is now called `path` the open file `fd`? */
bool is_called(int fd, const char *path);

#endif

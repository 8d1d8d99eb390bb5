/*
 * own_file: open files for writing so that no other user decides which file that is.
 *
 * A name in a folder that others can write to may be a link that another user has put there. A new
 * file is therefore made with O_EXCL, which follows no link; one that is continued must be a file
 * that this user has made; and anything else is a device or a pipe that the user has named on
 * purpose.
 */
#ifndef OWN_FILE_H
#define OWN_FILE_H

#include <stdbool.h>
#include <sys/types.h>

/* Open an existing file to continue it. It must be a regular file of this user with no other name,
 * and not a symbolic link. -1 with errno set, and *why is then the reason for a message. */
int open_own_file(const char *path, int flags, const char **why);

/* Open something that exists and is not a regular file: a device, a pipe, a socket. `path` may name
 * a link, as /dev/stdout is. -1 with errno set; EEXIST: it has become a regular file. */
int open_device(const char *path, int flags);

/* Make a file, replacing one of the same name that an earlier run may have left. */
int replace_own_file(const char *path, int flags, mode_t mode);

/* Make sure that a new name in the folder of `path` survives a crash of the machine. */
void sync_folder(const char *path);

/* Does `path` now name the open file `fd`? */
bool is_called(int fd, const char *path);

#endif

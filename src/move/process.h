/*
 * process: run one of PostgreSQL's programs on a database, and take what it writes.
 *
 * The connection goes along in the environment (PGHOST, PGPASSWORD and so on), which only this user
 * can see, and never in the arguments.
 */
#ifndef HVI_MOVE_PROCESS_H
#define HVI_MOVE_PROCESS_H

#include <libpq-fe.h>

#include "base/buffer.h"

/* Files that exist only in memory, as long as they are open: a program that is killed, or this one,
 * leaves nothing behind. The program finds the first as HVI_PROCESS_FILE(3), and so on. */
#define HVI_PROCESS_FILE(n)   "/dev/fd/" #n
#define HVI_PROCESS_FILES_MAX 2

typedef struct hvi_process_files {
    int fds[HVI_PROCESS_FILES_MAX]; /* owned; -1: none */
} hvi_process_files;

hv_status hvi_process_files_open(hvi_process_files *files, hv_error **error);
void hvi_process_files_close(hvi_process_files *files);

/* Replace the contents of one. */
hv_status hvi_process_file_write(const hvi_process_files *files, int number,
                                 const hvi_buffer *bytes, hv_error **error);

/*
 * Run argv[0], which is looked for in the PATH and where Debian has PostgreSQL's programs, and
 * append its output to `out`. `conn` (it may be NULL) is a connection to the database that it is
 * for: the same host, address, role and parameters. Errors: HV_INVALID if it cannot be run, with a
 * hint at the package; HV_REFUSED if it fails, with what it says as the detail; HV_TIMEOUT.
 */
hv_status hvi_process_run(const char *const *argv, PGconn *conn, const hvi_process_files *files,
                          int64_t deadline, hvi_buffer *out, hv_error **error);

#endif

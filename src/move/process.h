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

/*
 * Run argv[0], which is looked for in the PATH and where Debian has PostgreSQL's programs, and
 * append its output to `out`. `conn` (it may be NULL) is a connection to the database that it is
 * for: the same host, role and parameters. Errors: HV_INVALID if it cannot be run, with a hint at
 * the package; HV_REFUSED if it fails, with what it says as the detail; HV_TIMEOUT.
 */
hv_status hvi_process_run(const char *const *argv, PGconn *conn, int64_t deadline, hvi_buffer *out,
                          hv_error **error);

#endif

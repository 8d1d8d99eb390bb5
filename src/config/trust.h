/*
 * trust: may a configuration file be used, and may it hold a password?
 *
 * A user who can write to the file can make its owner connect to any server, and send the password
 * there; one who can read the file has the password. The rules are those of ssh and libpq for keys:
 * see docs/config.md.
 */
#ifndef HVI_TRUST_H
#define HVI_TRUST_H

#include <stdbool.h>

#include "base/error.h"

/*
 * Check the open file `fd`, which is called `path`. `named`: the user named it, instead of it being
 * found in one of the usual places; `secret`: it holds a password. Errors: HV_BAD_CONFIG, with a
 * hint that says what to do.
 */
hv_status hvi_trust_check(int fd, const char *path, bool named, bool secret, hv_error **error);

#endif

/*
 * trust: may a configuration file be believed, and may it hold a password?
 *
 * A user who can write to it can send its owner to a server of another's, password and all; one who
 * can read it has the password. The rules are those of ssh and of libpq for keys: see
 * docs/config.md.
 */
#ifndef HVI_TRUST_H
#define HVI_TRUST_H

#include <stdbool.h>

#include "base/error.h"

/*
 * Check the open file `fd`, which is called `path`. `named`: the user named it, and it was not only
 * found in one of the usual places; `secret`: it holds a password. Errors: HV_BAD_CONFIG, with a
 * hint that says what to do.
 */
hv_status hvi_trust_check(int fd, const char *path, bool named, bool secret, hv_error **error);

#endif

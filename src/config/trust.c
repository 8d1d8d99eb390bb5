/*
 * trust: may a configuration file be believed, and may it hold a password?
 */
#include "config/trust.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Is the owner somebody whom this user must trust anyway, root or itself? A file that was named is
 * believed whoever owns it, as long as there is no password in it, since naming it is the user's
 * decision. Root may name any file: it could be told to read any, and it often works for others.
 */
static bool is_owner_good(const struct stat *info, bool named, bool secret) {
    uid_t self = geteuid();
    return info->st_uid == 0 || info->st_uid == self || (named && (!secret || self == 0));
}

static hv_status fail_owner(const struct stat *info, const char *path, bool secret,
                            hv_error **error) {
    hvi_fail(error, HV_BAD_CONFIG, "configuration file \"%s\" belongs to another user", path);
    hvi_error_detail(error, "Its owner is user %lu, not user %lu or root.",
                     (unsigned long) info->st_uid, (unsigned long) geteuid());
    if (secret)
        hvi_error_hint(error, "It holds a password: make a copy of your own, with mode 0600.");
    else
        hvi_error_hint(error, "If you trust that user, name the file: with the command's -c, or in "
                              "$HYPERVAULT_CONFIG.");
    return HV_BAD_CONFIG;
}

hv_status hvi_trust_check(int fd, const char *path, bool named, bool secret, hv_error **error) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return hvi_fail(error, HV_BAD_CONFIG, "could not read configuration file \"%s\": %s", path,
                        strerror(errno));
    if (!is_owner_good(&info, named, secret))
        return fail_owner(&info, path, secret, error);
    if (!S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode))
        return HV_OK; /* a terminal or /dev/null, say: its mode means something else */
    unsigned mode = info.st_mode & 07777;
    /* A key or a password that belongs to root may be read by the group that it is meant for. */
    unsigned readers = info.st_uid == 0 ? S_IROTH : S_IRGRP | S_IROTH;
    if ((mode & (S_IWGRP | S_IWOTH)) != 0) {
        hvi_fail(error, HV_BAD_CONFIG, "others can write to configuration file \"%s\"", path);
        hvi_error_detail(error, "Its mode is %04o. They could send you to a server of theirs.",
                         mode);
        hvi_error_hint(error, secret ? "chmod 600 %s" : "chmod go-w %s", path);
        return HV_BAD_CONFIG;
    }
    if (secret && (mode & readers) != 0) {
        hvi_fail(error, HV_BAD_CONFIG,
                 "configuration file \"%s\" holds a password, and others can read it", path);
        hvi_error_detail(error, "Its mode is %04o.", mode);
        hvi_error_hint(error, "chmod 600 %s, or keep the password in a .pgpass file.", path);
        return HV_BAD_CONFIG;
    }
    return HV_OK;
}

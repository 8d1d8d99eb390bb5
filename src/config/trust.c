/*
 * trust: may a configuration file be used, and may it hold a password?
 */
#include "config/trust.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"

/*
 * Is the owner a user that this one must trust anyway, root or itself? A file that was named may
 * belong to any user, as long as there is no password in it: naming it is the user's decision. Root
 * may name any file, since it often works for other users.
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

/* Hint at a chmod command for a shell, with `rest` after it. Quoted unless the path is plain. */
static void hint_at_chmod(const char *mode, const char *path, const char *rest, hv_error **error) {
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+,:@%";
    hvi_buffer word = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&word, *path == '-' ? "./" : "");
    if (path[strspn(path, plain)] == '\0') {
        hvi_buffer_append_text(&word, path);
    } else {
        hvi_buffer_append_byte(&word, '\'');
        for (const char *at = path; *at != '\0'; at++)
            hvi_buffer_append_text(&word, *at == '\'' ? "'\\''" : (const char[]){*at, '\0'});
        hvi_buffer_append_byte(&word, '\'');
    }
    if (hvi_buffer_ok(&word))
        hvi_error_hint(error, "chmod %s %s%s", mode, word.data, rest);
    hvi_buffer_fini(&word);
}

hv_status hvi_trust_check(int fd, const char *path, bool named, bool secret, hv_error **error) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return hvi_fail(error, HV_BAD_CONFIG, "could not read configuration file \"%s\": %s", path,
                        strerror(errno));
    if (!is_owner_good(&info, named, secret))
        return fail_owner(&info, path, secret, error);
    if (!S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode))
        return HV_OK; /* such as a terminal or /dev/null, whose mode means something else */
    unsigned mode = info.st_mode & 07777;
    /* A password that belongs to root may be readable by the group that it is meant for. */
    unsigned readers = info.st_uid == 0 ? S_IROTH : S_IRGRP | S_IROTH;
    if ((mode & (S_IWGRP | S_IWOTH)) != 0) {
        hvi_fail(error, HV_BAD_CONFIG, "others can write to configuration file \"%s\"", path);
        hvi_error_detail(error, "Its mode is %04o. They could make you connect to their server.",
                         mode);
        hint_at_chmod(secret ? "600" : "go-w", path, "", error);
        return HV_BAD_CONFIG;
    }
    if (secret && (mode & readers) != 0) {
        hvi_fail(error, HV_BAD_CONFIG,
                 "configuration file \"%s\" holds a password, and others can read it", path);
        hvi_error_detail(error, "Its mode is %04o.", mode);
        hint_at_chmod("600", path, ", or keep the password in a .pgpass file.", error);
        return HV_BAD_CONFIG;
    }
    return HV_OK;
}

/*
 * extension: a PostgreSQL for private servers that has the extension hypervault.
 *
 * PostgreSQL looks for an extension's files relative to its own program. So a copy of the program,
 * in folders that are arranged like the original ones and link to their files, is a complete
 * installation. The extension is added to that, and the machine's stays as it is.
 */
#include "dev/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

#ifndef HV_EXTENSION_MAJOR /* it was not built */
#define HV_EXTENSION_MAJOR 0
#endif

#define MAX_FILES 16 /* of the extension: the library, the control file, a script per version */

struct dev_extension {
    int count;
    struct {
        char *name;
        char *bytes;
        size_t len;
    } files[MAX_FILES];
};

void dev_extension_free(dev_extension *extension) {
    for (int i = 0; extension != NULL && i < extension->count; i++) {
        free(extension->files[i].name);
        free(extension->files[i].bytes);
    }
    free(extension);
}

/* ---- The files of this hv -------------------------------------------------------------------- */

/* The folder in which this program lies: free() it. */
static char *program_folder(void) {
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
    if (len <= 0)
        return copy_text("");
    path[len] = '\0';
    *strrchr(path, '/') = '\0';
    return copy_text(path);
}

/* Read the extension's files in a folder. NULL if they are not there. */
static dev_extension *read_extension(const char *folder) {
    dev_extension *extension = new_memory(sizeof *extension);
    char *pattern = format_text("%s/hypervault[-.]*", folder);
    glob_t found = {0};
    int needed = 0; /* the library and the control file */
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && extension->count < MAX_FILES; i++) {
            const char *name = strrchr(found.gl_pathv[i], '/') + 1, *end = strrchr(name, '.');
            bool is_needed =
                strcmp(name, "hypervault.so") == 0 || strcmp(name, "hypervault.control") == 0;
            if (!is_needed && (end == NULL || strcmp(end, ".sql") != 0))
                continue;
            size_t len = 0;
            char *bytes = read_file(found.gl_pathv[i], &len);
            if (bytes == NULL)
                continue;
            extension->files[extension->count].name = copy_text(name);
            extension->files[extension->count].bytes = bytes;
            extension->files[extension->count++].len = len;
            needed += is_needed;
        }
    }
    globfree(&found);
    free(pattern);
    if (needed == 2)
        return extension;
    dev_extension_free(extension);
    return NULL;
}

dev_extension *dev_extension_read(void) {
    static const char *const places[] = {
        "../extension", /* of the program in the build folder */
#ifdef HV_EXTENSION_FOLDER
        HV_EXTENSION_FOLDER, /* of an installed one */
#endif
    };
    dev_extension *found = NULL;
    char *here = program_folder();
    for (size_t i = 0;
         HV_EXTENSION_MAJOR != 0 && found == NULL && i < sizeof places / sizeof places[0]; i++) {
        char *folder = format_text("%s/%s", here, places[i]);
        found = read_extension(folder);
        free(folder);
    }
    free(here);
    return found;
}

/* ---- The installation ------------------------------------------------------------------------ */

static bool fail_making(const char *path) {
    ui_fail(strerror(errno), NULL, "could not make \"%s\"", path);
    return false;
}

/* Make a folder and its parents below `root`, which exists. */
static bool make_folders(const char *root, const char *below) {
    char *path = format_text("%s%s", root, below);
    bool ok = true;
    for (char *at = path + strlen(root) + 1; ok && at != NULL; at = strchr(at + 1, '/')) {
        char end = *at;
        *at = end == '/' ? '\0' : end;
        ok = at[0] != '\0' || mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = end;
    }
    ok = ok && (mkdir(path, 0700) == 0 || errno == EEXIST);
    if (!ok)
        fail_making(path);
    free(path);
    return ok;
}

/* Make root/folder with a link to each entry of `folder`, except those whose names begin with
 * `but`. */
static bool link_entries(const char *root, const char *folder, const char *but) {
    if (!make_folders(root, folder))
        return false;
    DIR *list = opendir(folder);
    if (list == NULL) {
        ui_fail(strerror(errno), NULL, "could not read \"%s\"", folder);
        return false;
    }
    bool ok = true;
    const struct dirent *entry;
    while (ok && (entry = readdir(list)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            strncmp(name, but, strlen(but)) == 0)
            continue;
        char *target = format_text("%s/%s", folder, name);
        char *link = format_text("%s%s/%s", root, folder, name);
        ok = symlink(target, link) == 0 || errno == EEXIST || fail_making(link);
        free(target);
        free(link);
    }
    closedir(list);
    return ok;
}

/* Write bytes to root/folder/name. */
static bool place_file(const char *root, const char *folder, const char *name, const char *bytes,
                       size_t len, mode_t mode) {
    char *path = format_text("%s%s/%s", root, folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    bool ok = fd >= 0;
    for (size_t done = 0; ok && done < len;) {
        ssize_t written = write(fd, bytes + done, len - done);
        ok = written > 0;
        done += ok ? (size_t) written : 0;
    }
    if (!ok)
        fail_making(path);
    if (fd >= 0)
        close(fd);
    free(path);
    return ok;
}

/* The program must be a copy, because PostgreSQL resolves links in its own path. */
static bool place_program(const char *root, const char *bindir) {
    char *path = format_text("%s/postgres", bindir);
    size_t len = 0;
    char *bytes = read_file(path, &len);
    bool ok = bytes != NULL && place_file(root, bindir, "postgres", bytes, len, 0700);
    if (bytes == NULL)
        ui_fail(strerror(errno), NULL, "could not read \"%s\"", path);
    free(bytes);
    free(path);
    return ok;
}

static bool place_extension(const char *root, const char *library_folder, const char *share_folder,
                            const dev_extension *extension) {
    bool ok = true;
    for (int i = 0; ok && i < extension->count; i++) {
        const char *name = extension->files[i].name;
        bool is_library = strcmp(name, "hypervault.so") == 0;
        ok = place_file(root, is_library ? library_folder : share_folder, name,
                        extension->files[i].bytes, extension->files[i].len,
                        is_library ? 0700 : 0600);
    }
    return ok;
}

/* A path from the pg_config of a PostgreSQL, or NULL if it is not absolute: free() it. */
static char *ask(const char *bindir, const char *what) {
    char *program = format_text("%s/pg_config", bindir);
    char *path = process_output((const char *const[]){program, what, NULL});
    free(program);
    if (path != NULL && path[0] == '/')
        return path;
    free(path);
    return NULL;
}

/* Make the installation in `root`, which does not exist yet. */
static bool make_installation(const char *root, const char *bindir, const char *library_folder,
                              const char *share, const dev_extension *extension) {
    char *scripts = format_text("%s/extension", share);
    bool ok = mkdir(root, 0700) == 0 || fail_making(root);
    ok = ok && link_entries(root, bindir, "postgres") && place_program(root, bindir) &&
         link_entries(root, library_folder, "hypervault") &&
         link_entries(root, share, "extension") && link_entries(root, scripts, "hypervault") &&
         place_extension(root, library_folder, scripts, extension);
    free(scripts);
    return ok;
}

bool dev_extension_install(dev_folder *folder, const dev_extension *extension) {
    if (extension == NULL || program_version(folder->bindir) != HV_EXTENSION_MAJOR)
        return true;
    for (int i = 0; i < folder->count; i++)
        if (dev_server_pid(&folder->servers[i]) != 0)
            return true; /* it runs from the present installation */
    char *bindir = ask(folder->bindir, "--bindir");
    char *library_folder = ask(folder->bindir, "--pkglibdir");
    char *share = ask(folder->bindir, "--sharedir");
    char *fresh = format_text("%s.new", folder->installation);
    bool ok = true;
    /* A PostgreSQL that was moved, or has no pg_config, is used as it is. */
    if (bindir != NULL && library_folder != NULL && share != NULL &&
        strcmp(bindir, folder->bindir) == 0 && strcmp(bindir, share) != 0) {
        ok = remove_tree(fresh) &&
             make_installation(fresh, bindir, library_folder, share, extension) &&
             remove_tree(folder->installation);
        if (ok && rename(fresh, folder->installation) != 0)
            ok = fail_making(folder->installation);
    }
    free(bindir);
    free(library_folder);
    free(share);
    free(fresh);
    return ok;
}

char *dev_postgres(const dev_folder *folder) {
    char *own = format_text("%s%s/postgres", folder->installation, folder->bindir);
    bool exists = access(own, X_OK) == 0;
    free(own);
    return format_text("%s%s/postgres", exists ? "../" DEV_INSTALLATION : "", folder->bindir);
}

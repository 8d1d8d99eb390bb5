/*
 * folder: the folder of private servers: its lock, its marker and its small files.
 */
#include "dev/dev.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

#define MARKER         "hypervault-dev.json"
#define MARKER_PURPOSE "private PostgreSQL servers made by hv dev up"
#define FIRST_PORT     5432               /* of the sockets, without --port */
#define SHORT_SOCKETS  "/tmp/hypervault-" /* and a random word */

/* How long to wait for the lock: if the command that holds it is alive, and if that command was
 * killed and only its initdb, which is about to end, holds it. */
#define LOCK_ALIVE_MS  1000
#define LOCK_ORPHAN_MS 30000
#define LOCK_POLL_MS   20

static const char *const server_names[DEV_MAX_SERVERS] = {
    "one",  "two", "three",  "four",   "five",     "six",      "seven",   "eight",
    "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
};

void dev_folder_free(dev_folder *folder) {
    for (int i = 0; i < folder->count; i++) {
        free(folder->servers[i].place);
        free(folder->servers[i].data);
        free(folder->servers[i].log);
    }
    free(folder->dir);
    free(folder->config);
    free(folder->sockets);
    free(folder->bindir);
    free(folder->installation);
    if (folder->lock >= 0)
        close(folder->lock);
    *folder = (dev_folder){.lock = -1};
}

static int smaller(int left, int right) {
    return left < right ? left : right;
}

/* Derive the rest from dir, count, shards, spread and port, for servers from `first` on. */
static void derive(dev_folder *folder, int first) {
    if (folder->config == NULL) {
        folder->config = format_text("%s/hypervault.conf", folder->dir);
        folder->installation = format_text("%s/" DEV_INSTALLATION, folder->dir);
    }
    for (int i = first; i < folder->count; i++) {
        dev_server *server = &folder->servers[i];
        server->name = server_names[i];
        server->place = format_text("%s/%s", folder->dir, server->name);
        server->data = format_text("%s/data", server->place);
        server->log = format_text("%s/log", server->place);
        server->port = (folder->port != 0 ? folder->port : FIRST_PORT) + i;
        server->first_shard = folder->shards * smaller(i, folder->spread) / folder->spread;
        server->end_shard = folder->shards * smaller(i + 1, folder->spread) / folder->spread;
    }
}

/* ---- The lock -------------------------------------------------------------------------------- */

/* Is the folder empty but for what a command leaves that was killed before it wrote the marker? */
static bool is_blank(const char *dir) {
    DIR *list = opendir(dir);
    if (list == NULL)
        return false;
    bool blank = true;
    const struct dirent *entry;
    while (blank && (entry = readdir(list)) != NULL)
        blank = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lock") == 0 || strcmp(entry->d_name, MARKER ".new") == 0;
    closedir(list);
    return blank;
}

/* Is the command alive that wrote its process id into the lock file? */
static bool holder_lives(int lock) {
    char text[32] = "";
    if (pread(lock, text, sizeof text - 1, 0) <= 0)
        return true; /* the holder has just taken the lock */
    pid_t pid = (pid_t) atol(text);
    return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

/* False with errno set; EWOULDBLOCK: another command has it. */
static bool wait_for_lock(int lock) {
    for (int waited = 0; flock(lock, LOCK_EX | LOCK_NB) != 0; waited += LOCK_POLL_MS) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        if (waited > (holder_lives(lock) ? LOCK_ALIVE_MS : LOCK_ORPHAN_MS)) {
            errno = EWOULDBLOCK;
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_POLL_MS * 1000000L}, NULL);
    }
    /* On a full disk it stays empty: then another command gives up sooner than it might. */
    if (ftruncate(lock, 0) == 0)
        dprintf(lock, "%ld\n", (long) getpid());
    return true;
}

bool dev_lock(dev_folder *folder, const char *dir, bool new_too) {
    char *marker = format_text("%s/" MARKER, dir);
    bool ours = access(marker, F_OK) == 0 || (new_too && is_blank(dir));
    free(marker);
    if (!ours)
        return true; /* leave no lock file in a folder of another origin */
    char *path = format_text("%s/lock", dir);
    folder->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok = folder->lock >= 0 && wait_for_lock(folder->lock);
    if (!ok && folder->lock >= 0 && errno == EWOULDBLOCK)
        ui_fail(NULL, "Wait until it has ended.", "another `hv dev` is working in \"%s\"", dir);
    else if (!ok)
        ui_fail(strerror(errno), NULL, "could not lock the file \"%s\"", path);
    free(path);
    return ok;
}

/* ---- The marker ------------------------------------------------------------------------------ */

/* Is this a path that choose_sockets() chooses? `hv dev destroy` removes it, so it must be. */
static bool is_sockets_folder(const char *sockets, const char *dir) {
    size_t len = strlen(SHORT_SOCKETS);
    if (strncmp(sockets, SHORT_SOCKETS, len) == 0)
        return strlen(sockets) == len + 32 && strspn(sockets + len, "0123456789abcdef") == 32;
    len = strlen(dir);
    return strncmp(sockets, dir, len) == 0 && strcmp(sockets + len, "/sockets") == 0;
}

/* Take the settings from the marker. False if they make no sense. */
static bool take_marker(dev_folder *folder, json_t *marker) {
    const char *purpose = NULL, *dir = NULL, *sockets = NULL, *bindir = NULL;
    if (json_unpack(marker, "{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s?i}", "purpose", &purpose, "dir",
                    &dir, "sockets", &sockets, "bindir", &bindir, "servers", &folder->count,
                    "shards", &folder->shards, "port", &folder->port, "spread",
                    &folder->spread) != 0)
        return false;
    if (folder->spread == 0)
        folder->spread = folder->count;
    bool sane = strcmp(purpose, MARKER_PURPOSE) == 0 && folder->count >= 1 &&
                folder->count <= DEV_MAX_SERVERS && folder->spread >= 1 &&
                folder->spread <= folder->count && folder->shards >= folder->spread &&
                folder->shards <= HV_SHARDS && folder->port >= 0 &&
                folder->port + folder->count <= 65536 && is_sockets_folder(sockets, dir) &&
                bindir[0] == '/';
    if (!sane) {
        folder->count = 0;
        return false;
    }
    folder->dir = copy_text(dir);
    folder->sockets = copy_text(sockets);
    folder->bindir = copy_text(bindir);
    derive(folder, 0);
    return true;
}

bool dev_folder_read(dev_folder *folder, const char *dir, bool *missing) {
    char *path = format_text("%s/" MARKER, dir);
    bool ok = false;
    json_t *marker = NULL;
    FILE *file = fopen(path, "re");
    if (file == NULL && errno == ENOENT && missing != NULL && is_blank(dir)) {
        *missing = ok = true;
    } else if (file == NULL && errno == ENOENT) {
        ui_fail("It has no file " MARKER ".",
                missing != NULL ? "Name a new or an empty folder with --dir."
                                : "`hv dev up` makes some; name their folder with --dir.",
                missing != NULL ? "\"%s\" is not empty, and not a folder of `hv dev`"
                                : "there are no private servers in \"%s\"",
                dir);
    } else if (file == NULL) {
        ui_fail(strerror(errno), NULL, "could not read \"%s\"", path);
    } else {
        marker = json_loadf(file, JSON_REJECT_DUPLICATES, NULL);
        ok = marker != NULL && take_marker(folder, marker);
        if (!ok)
            ui_fail(NULL, "If the folder holds nothing that you need, remove it yourself.",
                    "\"%s\" is damaged", path);
        else if (strcmp(folder->dir, dir) != 0) {
            char *hint = format_text("Move it back to \"%s\".", folder->dir);
            ui_fail("The configuration and the servers name files by their full paths.", hint,
                    "the folder \"%s\" was moved", dir);
            free(hint);
            ok = false;
        }
    }
    if (file != NULL)
        fclose(file);
    json_decref(marker);
    free(path);
    return ok;
}

/* 32 hexadecimal digits that cannot be guessed. */
static bool random_word(char word[33]) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t) sizeof bytes) {
        ui_fail(strerror(errno), NULL, "could not get random numbers");
        return false;
    }
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(word + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

/* Inside the folder, unless libpq could not use that path: it is too long for a socket's address,
 * or contains a separator of hosts or the beginning of a comment in the configuration. */
static bool choose_sockets(dev_folder *folder) {
    folder->sockets = format_text("%s/sockets", folder->dir);
    bool fits = strlen(folder->sockets) + strlen("/.s.PGSQL.65535") <
                sizeof((struct sockaddr_un *) NULL)->sun_path;
    if (fits && strchr(folder->sockets, ',') == NULL && strstr(folder->sockets, " ;") == NULL)
        return true;
    char word[33];
    if (!random_word(word))
        return false;
    free(folder->sockets);
    folder->sockets = format_text(SHORT_SOCKETS "%s", word);
    return true;
}

static bool write_marker(const dev_folder *folder) {
    json_t *marker =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i}", "purpose", MARKER_PURPOSE, "dir",
                  folder->dir, "sockets", folder->sockets, "bindir", folder->bindir, "servers",
                  folder->count, "shards", folder->shards, "port", folder->port);
    if (marker != NULL && folder->spread != folder->count)
        json_object_set_new(marker, "spread", json_integer(folder->spread));
    char *text = marker != NULL ? json_dumps(marker, JSON_INDENT(2)) : NULL;
    bool ok = text != NULL;
    if (!ok)
        ui_fail(NULL, "Name another folder with --dir.", "\"%s\" is not UTF-8", folder->dir);
    char *path = format_text("%s/" MARKER, folder->dir);
    ok = ok && write_file(path, text);
    free(path);
    free(text);
    json_decref(marker);
    return ok;
}

bool dev_folder_make(dev_folder *folder, const char *dir, const dev_wish *wish,
                     const char *bindir) {
    folder->dir = copy_text(dir);
    folder->bindir = copy_text(bindir);
    folder->count = wish->servers != 0 ? wish->servers : DEV_DEFAULT_SERVERS;
    folder->spread = folder->count;
    folder->shards = wish->shards;
    if (folder->shards == 0)
        folder->shards = folder->count > DEV_DEFAULT_SHARDS ? folder->count : DEV_DEFAULT_SHARDS;
    folder->port = wish->port;
    derive(folder, 0);
    return choose_sockets(folder) && write_marker(folder);
}

bool dev_folder_grow(dev_folder *folder, int count) {
    int before = folder->count;
    if (folder->port + count > 65536) {
        ui_fail(NULL, "Ports end at 65535.", "there is no port for server number %d", count);
        return false;
    }
    folder->count = count;
    derive(folder, before);
    return write_marker(folder);
}

static bool fits(const char *option, int wanted, int there, const char *dir) {
    if (wanted == 0 || wanted == there)
        return true;
    char *hint =
        format_text("Leave %s out, take another folder with --dir, or remove these servers "
                    "and their data with `hv dev destroy`.",
                    option);
    ui_fail(NULL, hint, "the servers in \"%s\" were made with %s %d, not %d", dir, option, there,
            wanted);
    free(hint);
    return false;
}

bool dev_folder_fits(const dev_folder *folder, const dev_wish *wish) {
    if (wish->port != 0 && folder->port == 0) {
        ui_fail(NULL, "Leave --port out, or take another folder with --dir.",
                "the servers in \"%s\" were made without TCP ports", folder->dir);
        return false;
    }
    return (wish->servers > folder->count ||
            fits("--servers", wish->servers, folder->count, folder->dir)) &&
           fits("--shards", wish->shards, folder->shards, folder->dir) &&
           fits("--port", wish->port, folder->port, folder->dir);
}

/* ---- The small files ------------------------------------------------------------------------- */

char *dev_password_file(const dev_folder *folder) {
    return format_text("%s/password", folder->dir);
}

/* One in /tmp may have been removed, and its name taken by another user. */
static bool is_private_folder(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
           (status.st_mode & 077) == 0;
}

static bool make_sockets(const dev_folder *folder) {
    if (mkdir(folder->sockets, 0700) != 0 && errno != EEXIST) {
        ui_fail(strerror(errno), NULL, "could not make the folder \"%s\"", folder->sockets);
        return false;
    }
    if (!is_private_folder(folder->sockets)) {
        ui_fail("It must be a folder that only its owner can enter.", NULL,
                "the sockets' folder \"%s\" is not safe", folder->sockets);
        return false;
    }
    return true;
}

/* The servers' password, which is made if there is none yet: explicit_bzero() and free() it. */
static char *password(const dev_folder *folder) {
    char *path = dev_password_file(folder);
    char *word = new_memory(33);
    FILE *file = fopen(path, "re");
    bool ok = true;
    if (file != NULL) {
        ok = fread(word, 1, 32, file) == 32;
        if (!ok)
            ui_fail(NULL, NULL, "\"%s\" holds no password of `hv dev`", path);
        fclose(file);
    } else {
        ok = random_word(word) && write_file(path, word);
    }
    free(path);
    if (!ok) {
        free(word);
        return NULL;
    }
    return word;
}

static void print_server(FILE *file, const dev_folder *folder, const dev_server *server,
                         const char *secret) {
    fprintf(file, "\n[server %s]\nhost = %s\nport = %d\nuser = %s\n", server->name,
            folder->port != 0 ? "127.0.0.1" : folder->sockets, server->port, DEV_SUPERUSER);
    if (secret != NULL)
        fprintf(file, "password = %s\n", secret);
    fprintf(file, "dbname = %s\nsslmode = disable\n", DEV_SUPERUSER);
    if (folder->port != 0) /* among themselves they need no password */
        fprintf(file, "move_host = %s\n", folder->sockets);
    if (server->first_shard < server->end_shard)
        fprintf(file, "shards = %d-%d\n", server->first_shard, server->end_shard);
    else
        fprintf(file,
                "# It was added later. Give it shards that no server has, or move some here:\n"
                "# hv move SHARD --to %s\n"
                "#shards =\n",
                server->name);
}

/* Does a line begin with the section's title? */
static bool has_server(const char *text, const char *name) {
    char *title = format_text("[server %s]", name);
    bool found = false;
    for (const char *at = text; !found && (at = strstr(at, title)) != NULL; at++)
        found = at == text || at[-1] == '\n';
    free(title);
    return found;
}

/* The configuration as it is, *text NULL if there is none. free() it. */
static bool read_config(const dev_folder *folder, char **text) {
    size_t len = 0;
    *text = read_file(folder->config, &len);
    if (*text == NULL && errno != ENOENT) {
        ui_fail(strerror(errno), NULL, "could not read \"%s\"", folder->config);
        return false;
    }
    if (*text != NULL && strlen(*text) < len) {
        ui_fail(NULL, "Repair the file, or remove it: `hv dev up` makes a new one.",
                "\"%s\" holds a NUL byte", folder->config);
        explicit_bzero(*text, len);
        free(*text);
        return false;
    }
    return true;
}

/* Write the configuration. An existing one may have been edited: only servers that were added since
 * are appended. */
static bool make_config(const dev_folder *folder, const char *secret) {
    char *there = NULL, *text = NULL;
    size_t size = 0;
    if (!read_config(folder, &there))
        return false;
    bool ok = true, adds = there == NULL;
    FILE *file = open_memstream(&text, &size);
    if (file == NULL)
        out_of_memory();
    if (there != NULL)
        fputs(there, file);
    else
        fprintf(file,
                "# Private servers, made by `hv dev up`. Options: `hv help options`.\n"
                "[hypervault]\n"
                "# Values are spread over these shards, also when more are added.\n"
                "spread = 0-%d\n",
                folder->shards);
    for (int i = there == NULL ? 0 : folder->spread; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        if (there != NULL && has_server(there, server->name))
            continue;
        print_server(file, folder, server, secret);
        adds = true;
    }
    fclose(file);
    if (adds)
        ok = write_file(folder->config, text);
    if (there != NULL)
        explicit_bzero(there, strlen(there));
    free(there);
    explicit_bzero(text, size);
    free(text);
    return ok;
}

bool dev_folder_complete(const dev_folder *folder) {
    if (!make_sockets(folder))
        return false;
    char *secret = NULL;
    if (folder->port != 0 && (secret = password(folder)) == NULL)
        return false;
    bool ok = make_config(folder, secret);
    if (secret != NULL)
        explicit_bzero(secret, 32);
    free(secret);
    return ok;
}

/* Remove a file of the folder, and what a killed write_file() may have left. */
static bool remove_file(const dev_folder *folder, const char *name) {
    char *path = format_text("%s/%s", folder->dir, name);
    char *temporary = format_text("%s.new", path);
    bool ok = remove_tree(temporary) && remove_tree(path);
    free(temporary);
    free(path);
    return ok;
}

bool dev_folder_clear(const dev_folder *folder) {
    bool ok = true;
    for (int i = 0; i < folder->count; i++)
        ok = remove_tree(folder->servers[i].place) && ok;
    if (ok && is_private_folder(folder->sockets))
        ok = remove_tree(folder->sockets);
    return ok && remove_file(folder, DEV_INSTALLATION) && remove_file(folder, "password") &&
           remove_file(folder, "hypervault.conf") && remove_file(folder, MARKER) &&
           remove_file(folder, "lock");
}

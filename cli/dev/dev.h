/*
 * dev: private PostgreSQL servers in a folder of their own.
 *
 * The folder, which belongs to the user that the servers run as:
 *
 *     hypervault-dev.json   the marker of such a folder, with its settings
 *     lock                  held (flock) by the one `hv dev` command that changes the folder
 *     hypervault.conf       the configuration for hv and programs
 *     password              with --port only: the servers' password
 *     sockets/              the servers' sockets; elsewhere if this path would be too long
 *     one/data, one/log     a server's data directory and log, and so on
 *     installation/         a PostgreSQL with the extension hypervault: see extension.c
 *
 * Holds always: the marker is written before anything else, and removed last; a data directory has
 * its final name only when initdb has succeeded and its settings are written. So a command killed
 * at any moment leaves a folder that `hv dev up` completes and `hv dev destroy` removes.
 *
 * A function that returns bool has reported the reason when it returns false.
 */
#ifndef DEV_H
#define DEV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DEV_MAX_SERVERS     16
#define DEV_DEFAULT_SERVERS 2
#define DEV_DEFAULT_SHARDS  16
#define DEV_SUPERUSER       "hypervault"   /* the role; also the database's name */
#define DEV_INSTALLATION    "installation" /* in the folder */

/* One server. Everything follows from the folder's settings. */
typedef struct dev_server {
    const char *name; /* "one", "two", …; static */
    char *place;      /* DIR/one */
    char *data;       /* DIR/one/data */
    char *log;        /* DIR/one/log */
    int port;         /* of the socket, and of TCP if there is any */
    int first_shard;
    int end_shard; /* one past the last; the first: it was added later, and got no shards */
} dev_server;

typedef struct dev_folder {
    char *dir;          /* absolute, without symbolic links */
    char *config;       /* DIR/hypervault.conf */
    char *sockets;      /* where the sockets are */
    char *bindir;       /* of the PostgreSQL that made the servers */
    char *installation; /* DIR/installation */
    int port;           /* the first server's TCP port; 0: no TCP */
    int shards;
    int spread; /* over the first so many servers */
    int count;
    dev_server servers[DEV_MAX_SERVERS];
    int lock; /* descriptor, or -1; inherited by initdb, so that the lock outlives a kill */
} dev_folder;

void dev_folder_free(dev_folder *folder);

/* ---- way.c: the way to a folder, for root ---------------------------------------------------- */

/* A folder, or the nearest one on the way to it that exists. */
typedef struct dev_way {
    int parent; /* descriptor (O_PATH) of the folder that contains it, or will */
    int folder; /* the same of the folder itself; -1: it does not exist */
    char *name; /* its name in the parent, or the missing path from there; owned */
} dev_way;

/* Walk to a folder. With `check`, each folder and link on the way must belong to root or this user,
 * and no other user may be able to replace what is in a folder. */
bool dev_way_walk(dev_way *way, const char *dir, bool check, uid_t user);
void dev_way_close(dev_way *way);

/* Can only root change what is in the folder where the missing part will be? */
bool dev_way_is_roots(const dev_way *way);

/* Make the missing folders, the last one for this owner. Only if dev_way_is_roots(). False with
 * errno set. */
bool dev_way_make(const dev_way *way, uid_t owner, gid_t group);

/* Is `dir`, which is not a link, the folder? */
bool dev_way_leads_to(const dev_way *way, const char *dir);

/* Remove the folder if it is empty and was not replaced. False with errno set. */
bool dev_way_remove(const dev_way *way);

/* ---- user.c: the user that runs the servers ---------------------------------------------- */

/*
 * Check the folder `dir` (created with its parents if `create`) and become the user that it belongs
 * to, for good. Root follows only a path that no other user can change, gives away no existing
 * folder, and becomes the folder's owner, or for a new folder `user`, or else postgres or nobody.
 * Other users stay what they are. `*dir` is replaced by its real path.
 */
bool dev_enter(char **dir, const char *user, bool create);

/* For root: the way to the folder of private servers, checked if the folder exists. `*dir` becomes
 * absolute. */
bool dev_way_of(dev_way *way, char **dir);

/* $XDG_DATA_HOME/hypervault/dev and the like; for root /var/lib/hypervault/dev. NULL if there is no
 * home directory. */
char *dev_default_dir(void);

/* ---- folder.c: the folder and its marker ----------------------------------------------------- */

/* The settings that `up` was given; 0 is "not given". */
typedef struct dev_wish {
    int servers;
    int shards;
    int port;
} dev_wish;

/* Take the lock of a folder with a marker, or with `new_too` of an empty one. Any other folder is
 * not locked: dev_folder_read() reports what is wrong with it. */
bool dev_lock(dev_folder *folder, const char *dir, bool new_too);

/* Read the marker of a folder. A folder with nothing but the lock is no error if `missing` is not
 * NULL: it is set to true. */
bool dev_folder_read(dev_folder *folder, const char *dir, bool *missing);

/* Make the marker in an empty folder. */
bool dev_folder_make(dev_folder *folder, const char *dir, const dev_wish *wish, const char *bindir);

/* Does the folder have the settings that are wanted, or fewer servers? */
bool dev_folder_fits(const dev_folder *folder, const dev_wish *wish);

/* Add servers, so that there are `count`. Shards stay where they are. */
bool dev_folder_grow(dev_folder *folder, int count);

/* Make the sockets' folder, the password and the configuration, as far as they are missing. */
bool dev_folder_complete(const dev_folder *folder);

/* Remove everything that these functions make; the folder itself stays. */
bool dev_folder_clear(const dev_folder *folder);

/* The name of the file that holds the servers' password: free() it. */
char *dev_password_file(const dev_folder *folder);

/* ---- files.c: small files, safely ------------------------------------------------------------ */

/* Write a file of mode 0600 as a whole or not at all, even in a crash. */
bool write_file(const char *path, const char *text);

/* The bytes of a regular file, with a NUL byte after them: free() them. NULL with errno set if it
 * cannot be read. */
char *read_file(const char *path, size_t *len);

/* Remove a file or a folder with everything in it; symbolic links are not followed. It is no error
 * if it does not exist. */
bool remove_tree(const char *path);

/* The disk space that a folder takes. */
int64_t tree_bytes(const char *path);

/* ---- paths.c: where PostgreSQL's programs are ------------------------------------------------ */

/*
 * The folder with initdb, pg_ctl and postgres: from $PG_CONFIG or pg_config, else on PATH, else in
 * the usual places, newest first. `major` is the version it must have, 0: any. NULL after an error
 * message. free() it.
 */
char *find_postgres(int major);

/* The version of the PostgreSQL in a folder, such as 15, or 0 if it is not known. */
int program_version(const char *bindir);

/* Are they in this folder? */
bool has_postgres(const char *bindir);

/* The version of a data directory, such as 15, or 0 if it has none. */
int data_version(const char *data);

/* ---- process.c: running programs ------------------------------------------------------------- */

typedef struct process_plan {
    const char *const *argv; /* argv[0] is the program's path */
    const char *dir;         /* its working directory; NULL: ours */
    int output;              /* descriptor for stdout and stderr; -1: ours */
    int keep;                /* a descriptor that it inherits; -1: none */
    int last_signal;         /* the signal that it receives if this process ends first */
} process_plan;

/* Unset PGHOST, PGOPTIONS and all other variables that PostgreSQL's programs and libpq read
 * settings from: a private server has its own. */
void forget_pg_environment(void);

/* Start a program with /dev/null as its stdin. -1 after an error message. */
pid_t process_start(const process_plan *plan);

/* Wait for its end: its exit code, or 128 + the signal that ended it. */
int process_wait(pid_t pid);

/* A word as a shell reads it back: free() it. */
char *quote_for_shell(const char *word);

/* Run a program and return its output, at most 4 kB, without the newline at the end: free() it.
 * NULL if it cannot be run or fails. */
char *process_output(const char *const *argv);

/* ---- extension.c: a PostgreSQL that has the extension ---------------------------------------- */

/* The files of the extension that this hv was built or installed with. */
typedef struct dev_extension dev_extension;

/* Read them. Call it before dev_enter(), after which they may be out of reach. NULL if there are
 * none. */
dev_extension *dev_extension_read(void);
void dev_extension_free(dev_extension *extension);

/* Unless a server is running, make the folder's installation again from the present PostgreSQL and
 * this extension. Without an extension for that version nothing is done. */
bool dev_extension_install(dev_folder *folder, const dev_extension *extension);

/* The postgres to run the servers with, the installation's or the machine's own; relative to a
 * server's place if it is the installation's. free() it. */
char *dev_postgres(const dev_folder *folder);

/* ---- settings.c: what is in postgresql.conf -------------------------------------------------- */

/* Append the settings of a private server to those of a new data directory. */
bool dev_settings_write(const dev_server *server, const char *data);

/* Append those that moving shards needs to the data directories that an earlier version has made,
 * once. */
bool dev_settings_complete(const dev_folder *folder);

/* Does a running server need a restart for these? */
bool dev_settings_wait(const dev_folder *folder, const dev_server *server);

/* ---- server.c: one server's life ------------------------------------------------------------- */

/* Connect through the socket, where no password is needed. Never NULL. */
struct pg_conn *dev_connect(const dev_folder *folder, const dev_server *server, const char *dbname);

/* The process of a running server, or 0. */
pid_t dev_server_pid(const dev_server *server);

/* Make the data directories that are missing, all at the same time. */
bool dev_make_data(const dev_folder *folder);

/* Start the servers that are not running, wait until all accept connections, and make the database.
 * `started` receives how many were not running. */
bool dev_start(const dev_folder *folder, int *started);

/* Stop the servers that are running, in pg_ctl's mode "fast" or "immediate". `stopped` receives how
 * many. */
bool dev_stop(const dev_folder *folder, const char *mode, int *stopped);

/* The version of a running server, or of its data; "" if it is not known. free() it. */
char *dev_server_version(const dev_folder *folder, const dev_server *server);

#endif

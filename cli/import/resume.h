/*
 * resume: the name and records of an import, by which a later run continues it.
 *
 * The name is "import/SOURCE/SETTINGS/CHOICE/BEGUN": hashes of the input's beginning, of the
 * settings with the server of each shard when it began, and of the settings without; and the time
 * when it began. Each of its workers has a record of that name and its own number in the database
 * that it loads (see hv_load_open()), with how far it has come and its shards.
 *
 * Which shards a worker has depends on where they are. A record says of each of its shards that all
 * rows up to its position are decided, and that holds wherever the shard is later. So the records
 * of all servers are read, and of several that have a shard the farthest counts. A worker that has
 * got other shards begins a new record, and those that are nobody's any more are passed: a process
 * that still goes on with one meets a conflict.
 *
 * Earlier versions have left out CHOICE, or a record's shards: such an import is continued only
 * while each shard is where it was when it began.
 */
#ifndef IMPORT_RESUME_H
#define IMPORT_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

#define IMPORT_ID_SIZE 80

/* The hash of some bytes, continuing the hash of others, or 0. */
uint64_t import_digest(uint64_t digest, const char *bytes, size_t len);

/* What decides where rows go, as hashes. */
typedef struct import_settings_digest {
    uint64_t settings; /* with the server of each shard */
    uint64_t choice;   /* with the shards' numbers only */
} import_settings_digest;

/* Continue the hash of the options with the servers and shards of a store. */
import_settings_digest import_digest_shards(uint64_t digest, const hv_store *store);

/* A record of an import. */
typedef struct import_part {
    char id[IMPORT_ID_SIZE];
    int server;
    int number;
    int64_t position;
    uint64_t digest; /* of all rows up to there */
    int64_t stored;
    char *shards;  /* as import_note() writes them; owned; NULL: not known */
    bool has_note; /* its worker was opened completely */
    bool ended;    /* it is complete */
    bool passed;   /* its shards have other records */
} import_part;

/* Those of one import, on all servers. */
typedef struct import_parts {
    import_part *of; /* owned */
    size_t count;
    bool has_shards; /* those that have a note have them; also of a new import */
} import_parts;

void import_parts_fini(import_parts *parts);

/* Read a note. False if it is none of import_note()'s; only `part` is incomplete then. */
bool import_part_read(import_part *part, int64_t position, const char *note);

/* What one record says about an earlier import of an input with the same beginning. */
typedef struct import_past {
    int64_t rows;    /* up to this number they are decided, … */
    uint64_t digest; /* … and this is the digest of them all */
    int64_t begun;   /* unix milliseconds */
    bool complete;
} import_past;

/* All of them. */
typedef struct import_history {
    const char *label; /* only records with this import_settings.file are read */
    import_past *of;   /* owned; free() it */
    size_t count;
} import_history;

typedef enum import_begun {
    IMPORT_NEW,       /* no run has begun it, or it begins anew */
    IMPORT_UNDER_WAY, /* an earlier run has decided rows */
    IMPORT_ENDED,     /* an earlier run has completed it */
    /* The same, while shards were on other servers: the workers need not be opened. */
    IMPORT_ENDED_ELSEWHERE,
} import_begun;

/*
 * Ask all servers: shards may have moved since. Find the last import with this input and these
 * settings that is not complete, or else the last one. Without `resume`, make a new name in any
 * case, with a note if there is an incomplete import. False after an error message: a server cannot
 * be asked, or the import was begun with other settings, or, by an earlier version, with shards on
 * other servers. The history is added to in any case. Its records go to *parts.
 */
bool import_resume_find(hv_store *store, bool resume, uint64_t source,
                        const import_settings_digest *settings, char id[IMPORT_ID_SIZE],
                        import_begun *begun, import_parts *parts, import_history *history);

#endif

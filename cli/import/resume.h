/*
 * import_resume: what an import is known by, so that a later run can go on with it.
 *
 * Its name is "import/SOURCE/SETTINGS/BEGUN": hashes of what the input begins with and of what was
 * asked for, and when it began. Each of its lanes has a record of that name and its own number in
 * the database that it loads (see hv_load_open()).
 */
#ifndef IMPORT_RESUME_H
#define IMPORT_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

#define IMPORT_ID_SIZE 80

/* The hash of some bytes, going on from that of others, or from 0. */
uint64_t import_digest(uint64_t digest, const char *bytes, size_t len);

/* The servers and shards of a store, and the hash of all settings that decide where rows go. */
uint64_t import_digest_shards(uint64_t digest, const hv_store *store);

/* What one record says of an earlier import of an input that begins as this one does. */
typedef struct import_past {
    int64_t rows;    /* up to this number they are decided, … */
    uint64_t digest; /* … and this is the digest of them all */
    int64_t begun;   /* unix milliseconds */
    bool complete;
} import_past;

/* All of them. */
typedef struct import_history {
    const char *label; /* of these only: the import_settings.file that was recorded */
    import_past *of;   /* owned; free() it */
    size_t count;
} import_history;

typedef enum import_begun {
    IMPORT_NEW,       /* nobody has begun it, or it is to be begun anew */
    IMPORT_UNDER_WAY, /* a run before has decided rows */
    IMPORT_ENDED,     /* a run before has come to the end */
} import_begun;

/*
 * Ask `server`, or all of them for -1. Find the import with this input and these settings that was
 * begun last and has not come to its end, or else the last; without `resume`, make a new name in
 * any case, but say in a note if there is one that was not ended. False after saying why: a server
 * cannot be asked, or the one there is was begun with other settings. In any case adds to the
 * history.
 */
bool import_resume_find(hv_store *store, int server, bool resume, uint64_t source,
                        uint64_t settings, char id[IMPORT_ID_SIZE], import_begun *begun,
                        import_history *history);

#endif

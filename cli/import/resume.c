/*
 * resume: the name and records of an import, by which a later run continues it.
 */
#include "import/resume.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "ui/memory.h"
#include "ui/ui.h"

uint64_t import_digest(uint64_t digest, const char *bytes, size_t len) {
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);
    digest = (digest ^ len) * odd;
    while (len > 0) {
        uint64_t word = 0;
        size_t size = len < sizeof word ? len : sizeof word;
        memcpy(&word, bytes, size);
        digest = (digest ^ word) * odd;
        digest ^= digest >> 32;
        bytes += size;
        len -= size;
    }
    return digest;
}

uint64_t import_digest_shards(uint64_t digest, const hv_store *store) {
    for (int shard = -1; (shard = hv_next_shard(store, -1, shard)) >= 0;) {
        const char *server = hv_server_name(store, hv_shard_server(store, shard));
        digest = import_digest(digest, server, strlen(server));
        digest = import_digest(digest, (const char *) &shard, sizeof shard);
    }
    return digest;
}

/* ---- Finding --------------------------------------------------------------------------------- */

/* What the records say about the import that was begun last, of those with the same settings or of
 * all. */
typedef struct found {
    char id[IMPORT_ID_SIZE];
    bool moved;   /* rows were decided */
    bool unended; /* a worker is not complete */
} found;

typedef struct search {
    char settings[17];
    found open;  /* the last that is not complete, with the present settings */
    found last;  /* the last with the present settings */
    found other; /* the last that is not complete, with others */
    found now;   /* the one whose records are being read */
    import_history *history;
} search;

/* All records of one import were read. */
static void take_import(search *s) {
    const found *now = &s->now;
    if (now->id[0] == '\0' || !now->moved)
        return;
    bool ours = strstr(now->id, s->settings) != NULL;
    if (ours && strcmp(now->id, s->last.id) > 0)
        s->last = *now;
    if (ours && now->unended && strcmp(now->id, s->open.id) > 0)
        s->open = *now;
    if (!ours && now->unended)
        s->other = *now;
}

/* A note is import_note()'s: "running DIGEST STORED LABEL", or "complete …". If all rows were
 * rejected, none would be stored twice. */
static void add_past(import_history *history, const char *id, int64_t position, const char *note,
                     bool ended) {
    uint64_t digest;
    int64_t stored;
    int label = 0;
    const char *begun = strrchr(id, '/');
    if (sscanf(note, "%*s %" SCNx64 " %" SCNd64 " %n", &digest, &stored, &label) != 2 ||
        label == 0 || stored == 0 || begun == NULL || strcmp(note + label, history->label) != 0)
        return;
    history->of = resize_memory(history->of, (history->count + 1) * sizeof *history->of);
    history->of[history->count++] = (import_past){
        .rows = position,
        .digest = digest,
        .begun = (int64_t) (strtoull(begun + 1, NULL, 16) / 1000),
        .complete = ended,
    };
}

static void take_record(void *context, const char *name, int64_t position, const char *note) {
    search *s = context;
    const char *slash = strrchr(name, '/');
    size_t len = slash != NULL ? (size_t) (slash - name) : 0;
    if (len == 0 || len >= IMPORT_ID_SIZE)
        return;
    if (strlen(s->now.id) != len || strncmp(s->now.id, name, len) != 0) {
        take_import(s);
        s->now = (found){0};
        memcpy(s->now.id, name, len);
    }
    bool ended = note != NULL && strncmp(note, "complete ", 9) == 0;
    if (position > 0 && note != NULL)
        add_past(s->history, s->now.id, position, note, ended);
    s->now.moved = s->now.moved || position != 0 || ended;
    s->now.unended = s->now.unended || !ended;
}

/* Does a server have incomplete records of this import? */
static void merge(found *into, const found *from) {
    if (strcmp(into->id, from->id) < 0)
        *into = *from;
    else if (strcmp(into->id, from->id) == 0)
        into->unended = into->unended || from->unended;
}

static void make_id(char id[IMPORT_ID_SIZE], uint64_t source, uint64_t settings) {
    snprintf(id, IMPORT_ID_SIZE, "import/%016" PRIx64 "/%016" PRIx64 "/%012" PRIx64 "-%05x", source,
             settings, (uint64_t) hvi_clock_unix_us(), (unsigned) getpid() & 0xFFFFF);
}

static bool fail_settings(void) {
    ui_fail("An import of this input was begun with other options or other shards, and is not "
            "complete.",
            "Give the same options to continue it, or leave --resume out to begin a new one.",
            "there is no such import to continue");
    return false;
}

bool import_resume_find(hv_store *store, int server, bool resume, uint64_t source,
                        uint64_t settings, char id[IMPORT_ID_SIZE], import_begun *begun,
                        import_history *history) {
    char prefix[32];
    search all = {.settings = ""};
    snprintf(prefix, sizeof prefix, "import/%016" PRIx64 "/", source);
    snprintf(all.settings, sizeof all.settings, "%016" PRIx64, settings);
    for (int i = 0; i < hv_server_count(store); i++) {
        if (server >= 0 && i != server)
            continue;
        search here = {.settings = "", .history = history};
        hv_error *error = NULL;
        memcpy(here.settings, all.settings, sizeof here.settings);
        hv_status status = hv_load_list(store, i, prefix, take_record, &here, &error);
        if (status != HV_OK && resume) {
            ui_error(error);
            hv_error_free(error);
            return false;
        }
        hv_error_free(error); /* beginning a new import will report it too */
        take_import(&here);
        merge(&all.open, &here.open);
        merge(&all.last, &here.last);
        merge(&all.other, &here.other);
    }
    make_id(id, source, settings);
    *begun = IMPORT_NEW;
    if (!resume) {
        if (all.open.id[0] != '\0')
            ui_note("an import of the same input is not complete; --resume continues it, this one "
                    "begins again");
        return true;
    }
    const found *chosen = all.open.id[0] != '\0' ? &all.open : &all.last;
    if (chosen->id[0] == '\0')
        return all.other.id[0] == '\0' || fail_settings();
    memcpy(id, chosen->id, IMPORT_ID_SIZE);
    *begun = chosen->unended ? IMPORT_UNDER_WAY : IMPORT_ENDED;
    return true;
}

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

import_settings_digest import_digest_shards(uint64_t digest, const hv_store *store) {
    import_settings_digest made = {.settings = digest, .choice = digest};
    for (int shard = -1; (shard = hv_next_shard(store, -1, shard)) >= 0;) {
        const char *server = hv_server_name(store, hv_shard_server(store, shard));
        made.settings = import_digest(made.settings, server, strlen(server));
        made.settings = import_digest(made.settings, (const char *) &shard, sizeof shard);
        made.choice = import_digest(made.choice, (const char *) &shard, sizeof shard);
    }
    return made;
}

/* ---- Finding --------------------------------------------------------------------------------- */

/* What the records say about the import that was begun last, of those with the same settings or of
 * all. */
typedef struct found {
    char id[IMPORT_ID_SIZE];
    bool moved;   /* rows were decided */
    bool unended; /* a worker is not complete */
    bool ended;   /* one is; that is recorded after all rows of all workers are decided */
} found;

typedef struct search {
    char settings[17 + 1]; /* with a slash behind it, as in a name */
    char choice[17 + 1];
    found open;      /* the last that is not complete, with the present settings */
    found last;      /* the last with the present settings */
    found elsewhere; /* the last with these settings, while shards were on other servers */
    found other;     /* the last that is not complete, with others */
    found now;       /* the one whose records are being read */
    import_history *history;
} search;

/* When it began, in a form that can be compared; "" if there is none. */
static const char *begin_of(const found *f) {
    const char *slash = strrchr(f->id, '/');
    return slash != NULL ? slash + 1 : "";
}

static bool is_later(const found *f, const found *than) {
    return strcmp(begin_of(f), begin_of(than)) > 0;
}

/* All records of one import were read. */
static void take_import(search *s) {
    const found *now = &s->now;
    if (now->id[0] == '\0' || !now->moved)
        return;
    bool ours = strstr(now->id, s->settings) != NULL;
    bool same = !ours && strstr(now->id, s->choice) != NULL;
    if (ours && is_later(now, &s->last))
        s->last = *now;
    if (ours && now->unended && is_later(now, &s->open))
        s->open = *now;
    if (same && is_later(now, &s->elsewhere))
        s->elsewhere = *now;
    if (!ours && !same && now->unended)
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
    s->now.ended = s->now.ended || ended;
}

/* Does a server have incomplete records of this import? Of two others, the later one counts. */
static void merge(found *into, const found *from) {
    if (strcmp(into->id, from->id) == 0) {
        into->unended = into->unended || from->unended;
        into->ended = into->ended || from->ended;
    } else if (is_later(from, into)) {
        *into = *from;
    }
}

static void make_id(char id[IMPORT_ID_SIZE], uint64_t source,
                    const import_settings_digest *settings) {
    snprintf(id, IMPORT_ID_SIZE,
             "import/%016" PRIx64 "/%016" PRIx64 "/%016" PRIx64 "/%012" PRIx64 "-%05x", source,
             settings->settings, settings->choice, (uint64_t) hvi_clock_unix_us(),
             (unsigned) getpid() & 0xFFFFF);
}

static bool fail_settings(void) {
    ui_fail("An import of this input was begun with other options or other shards, and is not "
            "complete.",
            "Give the same options to continue it, or leave --resume out to begin a new one.",
            "there is no such import to continue");
    return false;
}

/* What it has stored has moved with the shards; how far it has come is known for each server. */
static bool fail_places(void) {
    ui_fail("An import of this input is not complete, and shards have moved to other servers since "
            "it began. How far it has come is recorded on the servers where they were.",
            "Move them back to continue it (see hv config), or leave --resume out to begin a new "
            "one.",
            "the import cannot be continued where its shards are now");
    return false;
}

/* Which one `resume` means. False after an error message. */
static bool choose(const search *all, char id[IMPORT_ID_SIZE], import_begun *begun) {
    const found *ours = all->open.id[0] != '\0' ? &all->open : &all->last;
    const found *elsewhere = &all->elsewhere;
    if (is_later(elsewhere, ours) && !elsewhere->ended)
        return fail_places();
    if (ours->id[0] != '\0' && (ours->unended || !is_later(elsewhere, ours))) {
        memcpy(id, ours->id, IMPORT_ID_SIZE);
        *begun = ours->unended ? IMPORT_UNDER_WAY : IMPORT_ENDED;
    } else if (elsewhere->id[0] != '\0') {
        memcpy(id, elsewhere->id, IMPORT_ID_SIZE);
        *begun = IMPORT_ENDED_ELSEWHERE;
    } else if (all->other.id[0] != '\0') {
        return fail_settings();
    }
    return true;
}

bool import_resume_find(hv_store *store, bool resume, uint64_t source,
                        const import_settings_digest *settings, char id[IMPORT_ID_SIZE],
                        import_begun *begun, import_history *history) {
    char prefix[32];
    search all = {.settings = ""};
    snprintf(prefix, sizeof prefix, "import/%016" PRIx64 "/", source);
    snprintf(all.settings, sizeof all.settings, "%016" PRIx64 "/", settings->settings);
    snprintf(all.choice, sizeof all.choice, "%016" PRIx64 "/", settings->choice);
    for (int i = 0; i < hv_server_count(store); i++) {
        search here = {.settings = "", .history = history};
        hv_error *error = NULL;
        memcpy(here.settings, all.settings, sizeof here.settings);
        memcpy(here.choice, all.choice, sizeof here.choice);
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
        merge(&all.elsewhere, &here.elsewhere);
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
    return choose(&all, id, begun);
}

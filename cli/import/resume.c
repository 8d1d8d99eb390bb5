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

/* ---- Records --------------------------------------------------------------------------------- */

void import_parts_fini(import_parts *parts) {
    for (size_t i = 0; i < parts->count; i++)
        free(parts->of[i].shards);
    free(parts->of);
    *parts = (import_parts){0};
}

/* A note is import_note()'s: "running DIGEST STORED [SHARDS] LABEL", "complete …" or "passed …".
 * Earlier versions have no shards. Returns the label; NULL: it is none. */
static const char *read_note(const char *note, uint64_t *digest, int64_t *stored,
                             const char **shards, size_t *shards_len) {
    int at = 0;
    *shards = NULL;
    *shards_len = 0;
    if (note == NULL || sscanf(note, "%*s %" SCNx64 " %" SCNd64 " %n", digest, stored, &at) != 2 ||
        at == 0)
        return NULL;
    const char *end = note[at] == '[' ? strstr(note + at, "] ") : NULL;
    if (end == NULL)
        return note + at;
    *shards = note + at;
    *shards_len = (size_t) (end + 1 - *shards);
    return end + 2;
}

static bool begins_with(const char *text, const char *with) {
    return text != NULL && strncmp(text, with, strlen(with)) == 0;
}

bool import_part_read(import_part *part, int64_t position, const char *note) {
    const char *shards;
    size_t len;
    free(part->shards);
    part->shards = NULL;
    part->position = position;
    part->digest = 0;
    part->stored = 0;
    part->has_note = note != NULL;
    part->ended = begins_with(note, "complete ");
    part->passed = begins_with(note, "passed ");
    if (read_note(note, &part->digest, &part->stored, &shards, &len) == NULL)
        return false;
    if (shards != NULL)
        part->shards = format_text("%.*s", (int) len, shards);
    return true;
}

/* ---- Finding --------------------------------------------------------------------------------- */

/* What the records say about an import. */
typedef struct found {
    char id[IMPORT_ID_SIZE];
    bool moved;      /* rows were decided */
    bool unended;    /* a worker is not complete */
    bool ended;      /* one is; that is recorded after all rows of all workers are decided */
    bool lacks_sets; /* its records do not say which shards they have */
} found;

typedef struct search {
    char settings[17 + 1]; /* with a slash behind it, as in a name */
    char choice[17 + 1];
    int server; /* whose records are being read */
    found *all; /* owned */
    size_t count;
    import_parts parts; /* of all of them */
    import_history *history;
} search;

static const found none;

/* When it began, in a form that can be compared; "" if there is none. */
static const char *begin_of(const found *f) {
    const char *slash = strrchr(f->id, '/');
    return slash != NULL ? slash + 1 : "";
}

static bool is_later(const found *f, const found *than) {
    return strcmp(begin_of(f), begin_of(than)) > 0;
}

/* If all rows were rejected, none would be stored twice. */
static void add_past(import_history *history, const char *id, int64_t position, const char *note,
                     bool ended) {
    uint64_t digest;
    int64_t stored;
    const char *shards, *begun = strrchr(id, '/');
    size_t len;
    const char *label = read_note(note, &digest, &stored, &shards, &len);
    if (label == NULL || stored == 0 || begun == NULL || strcmp(label, history->label) != 0)
        return;
    history->of = resize_memory(history->of, (history->count + 1) * sizeof *history->of);
    history->of[history->count++] = (import_past){
        .rows = position,
        .digest = digest,
        .begun = (int64_t) (strtoull(begun + 1, NULL, 16) / 1000),
        .complete = ended,
    };
}

/* The import with this id. */
static found *find_import(search *s, const char *id) {
    for (size_t i = s->count; i-- > 0;)
        if (strcmp(s->all[i].id, id) == 0)
            return &s->all[i];
    s->all = resize_memory(s->all, (s->count + 1) * sizeof *s->all);
    found *made = &s->all[s->count++];
    *made = none;
    snprintf(made->id, sizeof made->id, "%s", id);
    return made;
}

static void take_record(void *context, const char *name, int64_t position, const char *note) {
    search *s = context;
    const char *slash = strrchr(name, '/');
    size_t len = slash != NULL ? (size_t) (slash - name) : 0;
    if (len == 0 || len >= IMPORT_ID_SIZE)
        return;
    import_part part = {.server = s->server, .number = (int) strtol(slash + 1, NULL, 10)};
    memcpy(part.id, name, len);
    import_part_read(&part, position, note);
    found *of = find_import(s, part.id);
    if (position > 0 && note != NULL)
        add_past(s->history, of->id, position, note, part.ended);
    of->moved = of->moved || position != 0 || part.ended;
    of->unended = of->unended || !(part.ended || part.passed);
    of->ended = of->ended || part.ended;
    of->lacks_sets = of->lacks_sets || (part.has_note && part.shards == NULL);
    s->parts.of = resize_memory(s->parts.of, (s->parts.count + 1) * sizeof *s->parts.of);
    s->parts.of[s->parts.count++] = part;
}

/* Give the records of one import to the caller. */
static void give_parts(search *s, const char *id, import_parts *to) {
    *to = (import_parts){.of = s->parts.of, .has_shards = true};
    for (size_t i = 0; i < s->parts.count; i++) {
        import_part *part = &s->parts.of[i];
        if (strcmp(part->id, id) != 0) {
            free(part->shards);
            continue;
        }
        to->has_shards = to->has_shards && (part->shards != NULL || !part->has_note);
        to->of[to->count++] = *part;
    }
    s->parts = (import_parts){0};
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

/* An earlier version has not recorded which shards its records have. */
static bool fail_places(void) {
    ui_fail("An import of this input is not complete, and shards have moved to other servers since "
            "it began. How far it has come is recorded on the servers where they were.",
            "Move them back to continue it (see hv config), or leave --resume out to begin a new "
            "one.",
            "the import cannot be continued where its shards are now");
    return false;
}

/* Is there something left to be done, or to be recorded? */
static bool is_open(const found *f) {
    return f->unended || !f->ended;
}

/* Those of the same input that count. */
typedef struct candidates {
    const found *open;      /* the last that is not complete, which can be continued */
    const found *last;      /* the last that could be */
    const found *elsewhere; /* the last that could be if its shards were where they were */
    const found *other;     /* one that is not complete, with other settings */
} candidates;

static candidates list_candidates(const search *s) {
    candidates c = {&none, &none, &none, &none};
    for (size_t i = 0; i < s->count; i++) {
        const found *f = &s->all[i];
        bool same = strstr(f->id, s->choice) != NULL;
        bool ours = strstr(f->id, s->settings) != NULL || (same && !f->lacks_sets);
        if (!f->moved)
            continue;
        if (ours && is_later(f, c.last))
            c.last = f;
        if (ours && is_open(f) && is_later(f, c.open))
            c.open = f;
        if (same && !ours && is_later(f, c.elsewhere))
            c.elsewhere = f;
        if (!same && !ours && f->unended)
            c.other = f;
    }
    return c;
}

/* Which one `resume` means. False after an error message. */
static bool choose(const search *s, const candidates *c, char id[IMPORT_ID_SIZE],
                   import_begun *begun) {
    const found *ours = c->open->id[0] != '\0' ? c->open : c->last;
    const found *elsewhere = c->elsewhere;
    if (is_later(elsewhere, ours) && !elsewhere->ended)
        return fail_places();
    if (ours->id[0] != '\0' && (is_open(ours) || !is_later(elsewhere, ours))) {
        bool is_moved = strstr(ours->id, s->settings) == NULL;
        memcpy(id, ours->id, IMPORT_ID_SIZE);
        *begun = is_moved && ours->ended ? IMPORT_ENDED_ELSEWHERE
                 : is_open(ours)         ? IMPORT_UNDER_WAY
                                         : IMPORT_ENDED;
    } else if (elsewhere->id[0] != '\0') {
        memcpy(id, elsewhere->id, IMPORT_ID_SIZE);
        *begun = IMPORT_ENDED_ELSEWHERE;
    } else if (c->other->id[0] != '\0') {
        return fail_settings();
    }
    return true;
}

/* Read the records of all servers. False after an error message. */
static bool read_records(hv_store *store, bool resume, const char *prefix, search *s) {
    for (s->server = 0; s->server < hv_server_count(store); s->server++) {
        hv_error *error = NULL;
        hv_status status = hv_load_list(store, s->server, prefix, take_record, s, &error);
        if (status != HV_OK && resume)
            ui_error(error);
        hv_error_free(error); /* beginning a new import will report it too */
        if (status != HV_OK && resume)
            return false;
    }
    return true;
}

bool import_resume_find(hv_store *store, bool resume, uint64_t source,
                        const import_settings_digest *settings, char id[IMPORT_ID_SIZE],
                        import_begun *begun, import_parts *parts, import_history *history) {
    char prefix[32];
    search s = {.history = history};
    snprintf(prefix, sizeof prefix, "import/%016" PRIx64 "/", source);
    snprintf(s.settings, sizeof s.settings, "%016" PRIx64 "/", settings->settings);
    snprintf(s.choice, sizeof s.choice, "%016" PRIx64 "/", settings->choice);
    bool ok = read_records(store, resume, prefix, &s);
    candidates c = list_candidates(&s);
    make_id(id, source, settings);
    *begun = IMPORT_NEW;
    if (ok && resume)
        ok = choose(&s, &c, id, begun);
    else if (ok && c.open->id[0] != '\0')
        ui_note("an import of the same input is not complete; --resume continues it, this one "
                "begins again");
    give_parts(&s, id, parts);
    free(s.all);
    return ok;
}

/*
 * index_list: the indexes of the tables entities, over all shards.
 *
 * A job asks a server about all of its shards at once. An index is known by its name; the
 * definition that most shards have is its definition.
 */
#include "schema/index_list.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/shard_ranges.h"
#include "schema/catalogue.h"
#include "schema/crew.h"
#include "shard/shard_row.h"
#include "wire/refusal.h"

/* ---- the statement ---- */

/* Every shard that is there has a row, without an index if it has none. */
static const char list_sql[] =
    "SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer, i.relname,"
    " pg_catalog.pg_get_indexdef(x.indexrelid), x.indisvalid,"
    " EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p"
    "   WHERE p.index_relid OPERATOR(pg_catalog.=) x.indexrelid),"
    " pg_catalog.pg_relation_size(x.indexrelid), pg_catalog.pg_stat_get_numscans(x.indexrelid)"
    " FROM pg_catalog.pg_namespace n"
    " JOIN pg_catalog.pg_class e ON e.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND e.relname OPERATOR(pg_catalog.=) 'entities'"
    " LEFT JOIN pg_catalog.pg_index x ON x.indrelid OPERATOR(pg_catalog.=) e.oid"
    " LEFT JOIN pg_catalog.pg_class i ON i.oid OPERATOR(pg_catalog.=) x.indexrelid"
    " WHERE n.nspname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.name[])";

enum { SHARD, NAME, DEFINITION, IS_VALID, IS_BUILDING, BYTES, SCANS };

static const hvi_form form = {
    .asked = "the indexes",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_SHARD, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL,
                HVI_IS_BOOL | HVI_OR_NULL, HVI_IS_BOOL, HVI_IS_COUNT | HVI_OR_NULL,
                HVI_IS_COUNT | HVI_OR_NULL},
};

/* ---- what was read ---- */

typedef struct found {
    char *name, *definition; /* owned; the second with "@shard" */
    int shard;
    bool is_valid, is_building;
    int64_t bytes, scans;
} found;

typedef struct entry {
    hv_index_info info; /* its texts are owned */
} entry;

struct hv_indexes {
    entry *entries; /* owned */
    size_t count;
};

typedef struct list {
    found *items; /* owned */
    size_t count;
    size_t room;
    bool has_shard[HV_SHARDS]; /* it is there; at last: it was asked for */
} list;

static void free_list(list *l) {
    for (size_t i = 0; i < l->count; i++) {
        free(l->items[i].name);
        free(l->items[i].definition);
    }
    free(l->items);
}

static bool add_row(list *l, const PGresult *result, int row) {
    int shard = (int) hvi_integer_at(result, row, SHARD);
    l->has_shard[shard] = true;
    if (PQgetisnull(result, row, NAME) || PQgetisnull(result, row, DEFINITION))
        return true;
    if (l->count == l->room) {
        size_t room = l->room > 0 ? 2 * l->room : 256;
        found *items = realloc(l->items, room * sizeof *items);
        if (items == NULL)
            return false;
        l->items = items;
        l->room = room;
    }
    hvi_buffer definition = HVI_BUFFER_EMPTY;
    hvi_catalogue_generalize(&definition, hvi_text_at(result, row, DEFINITION), shard);
    l->items[l->count] = (found){
        .name = strdup(hvi_text_at(result, row, NAME)),
        .definition = hvi_buffer_take(&definition),
        .shard = shard,
        .is_valid = hvi_bool_at(result, row, IS_VALID),
        .is_building = hvi_bool_at(result, row, IS_BUILDING),
        .bytes = hvi_integer_at(result, row, BYTES),
        .scans = hvi_integer_at(result, row, SCANS),
    };
    const found *made = &l->items[l->count++];
    return made->name != NULL && made->definition != NULL;
}

/* ---- the jobs ---- */

typedef struct asking {
    hvi_job job;
    list *list; /* not owned */
    hvi_buffer parameter;
    const char *parameters[1];
} asking;

static hvi_job_next step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request) {
    asking *a = (asking *) job;
    if (answer == NULL) {
        a->parameters[0] = a->parameter.data;
        request->sql = list_sql;
        request->parameter_count = 1;
        request->parameters = a->parameters;
        return HVI_JOB_RUN;
    }
    if (answer->status == HV_UNAVAILABLE)
        return HVI_JOB_AFRESH;
    job->work = HV_WORK_FAILED;
    if (answer->status != HV_OK) {
        hvi_error_move(&job->error, &answer->error);
        return HVI_JOB_END;
    }
    if (hvi_result_check(answer->result, &form, session->config->server, -1, &job->error) != HV_OK)
        return HVI_JOB_END;
    for (int row = 0; row < PQntuples(answer->result); row++)
        if (!add_row(a->list, answer->result, row)) {
            hvi_no_memory(&job->error);
            return HVI_JOB_END;
        }
    job->work = HV_WORK_DONE;
    return HVI_JOB_END;
}

static void free_asking(hvi_job *job) {
    asking *a = (asking *) job;
    hvi_buffer_fini(&a->parameter);
    free(a);
}

/* ---- the list ---- */

/* The primary key first, then by name; those of a name together, by definition. */
static int compare(const void *left, const void *right) {
    const found *a = left, *b = right;
    bool a_is_key = strcmp(a->name, HVI_ENTITIES_KEY) == 0;
    bool b_is_key = strcmp(b->name, HVI_ENTITIES_KEY) == 0;
    if (a_is_key != b_is_key)
        return a_is_key ? -1 : 1;
    int names = strcmp(a->name, b->name);
    if (names != 0)
        return names;
    int definitions = strcmp(a->definition, b->definition);
    return definitions != 0 ? definitions : a->shard - b->shard;
}

/* The definition that most of these shards have, the first of several. */
static const char *common_definition(const found *items, size_t count) {
    const char *best = items[0].definition;
    size_t best_count = 0;
    for (size_t i = 0, same; i < count; i += same) {
        for (same = 1;
             i + same < count && strcmp(items[i + same].definition, items[i].definition) == 0;)
            same++;
        if (same > best_count) {
            best = items[i].definition;
            best_count = same;
        }
    }
    return best;
}

/* Write the shards of the list that have this mark, as ranges. */
static char *ranges_of(const char *marks, char mark) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &text};
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (marks[shard] == mark)
            hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    return hvi_buffer_take(&text);
}

/* One index: the items of its name. */
static bool make_entry(const list *l, const found *items, size_t count, entry *to) {
    static const char MISSING = 'm', GOOD = 'g', INVALID = 'i', DIFFERENT = 'd', BUILDING = 'b';
    char marks[HV_SHARDS] = {0};
    hv_index_info *info = &to->info;
    const char *definition = common_definition(items, count);
    for (int shard = 0; shard < HV_SHARDS; shard++)
        marks[shard] = (char) (l->has_shard[shard] ? MISSING : 0);
    for (size_t i = 0; i < count; i++) {
        const found *one = &items[i];
        marks[one->shard] = one->is_building                           ? BUILDING
                            : !one->is_valid                           ? INVALID
                            : strcmp(one->definition, definition) != 0 ? DIFFERENT
                                                                       : GOOD;
        info->bytes += one->bytes;
        info->scans += one->scans;
    }
    for (int shard = 0; shard < HV_SHARDS; shard++) {
        info->shards += marks[shard] == GOOD;
        info->missing += marks[shard] == MISSING;
        info->invalid += marks[shard] == INVALID;
        info->building += marks[shard] == BUILDING;
        info->different += marks[shard] == DIFFERENT;
    }
    info->name = strdup(items[0].name);
    info->definition = strdup(definition);
    info->missing_in = ranges_of(marks, MISSING);
    info->invalid_in = ranges_of(marks, INVALID);
    info->different_in = ranges_of(marks, DIFFERENT);
    return info->name != NULL && info->definition != NULL && info->missing_in != NULL &&
           info->invalid_in != NULL && info->different_in != NULL;
}

void hv_indexes_free(hv_indexes *indexes) {
    if (indexes == NULL)
        return;
    for (size_t i = 0; i < indexes->count; i++) {
        hv_index_info *info = &indexes->entries[i].info;
        free((char *) (uintptr_t) info->name);
        free((char *) (uintptr_t) info->definition);
        free((char *) (uintptr_t) info->missing_in);
        free((char *) (uintptr_t) info->invalid_in);
        free((char *) (uintptr_t) info->different_in);
    }
    free(indexes->entries);
    free(indexes);
}

const hv_index_info *hv_indexes_at(const hv_indexes *indexes, size_t index) {
    return index < indexes->count ? &indexes->entries[index].info : NULL;
}

static hv_status make_indexes(list *l, hv_indexes *made, hv_error **error) {
    if (l->count > 0)
        qsort(l->items, l->count, sizeof *l->items, compare);
    made->entries = calloc(l->count + 1, sizeof *made->entries);
    if (made->entries == NULL)
        return hvi_no_memory(error);
    for (size_t i = 0, same; i < l->count; i += same) {
        for (same = 1;
             i + same < l->count && strcmp(l->items[i + same].name, l->items[i].name) == 0;)
            same++;
        if (!make_entry(l, l->items + i, same, &made->entries[made->count++]))
            return hvi_no_memory(error);
    }
    return HV_OK;
}

/* ---- all of it ---- */

static hv_status add_server(hvi_crew *crew, const hvi_router *router, int server, const int *shards,
                            int count, list *l, hv_error **error) {
    int *own = malloc(((size_t) count + 1) * sizeof *own);
    asking *a = calloc(1, sizeof *a);
    size_t own_count = 0;
    hv_status status = own != NULL && a != NULL ? HV_OK : hvi_no_memory(error);
    for (int i = 0; status == HV_OK && i < count; i++)
        if (hvi_router_holder(router, shards[i]) == server)
            own[own_count++] = shards[i];
    if (status == HV_OK && own_count > 0) {
        hvi_catalogue_parameter(&a->parameter, own, own_count);
        if (!hvi_buffer_ok(&a->parameter))
            status = hvi_no_memory(error);
    }
    if (status == HV_OK && own_count > 0) {
        a->list = l;
        a->job = (hvi_job){
            .server = server, .shard = -1, .is_reading = true, .step = step, .free = free_asking};
        hvi_crew_add(crew, &a->job);
    } else if (a != NULL) {
        free_asking(&a->job);
    }
    free(own);
    return status;
}

/* A shard that is not there lacks every index; but one of them must be there. */
static hv_status note_shards(list *l, const hvi_router *router, const int *shards, int count,
                             hv_error **error) {
    bool is_any_there = false;
    for (int i = 0; i < count; i++) {
        is_any_there = is_any_there || l->has_shard[shards[i]];
        l->has_shard[shards[i]] = true;
    }
    if (is_any_there)
        return HV_OK;
    int server = hvi_router_holder(router, shards[0]);
    return hvi_fail_not_initialized(router->servers[server].name, shards[0], error);
}

static hv_status read_all(hvi_router *router, const hv_rollout *rollout, list *l,
                          hv_error **error) {
    hvi_crew *crew = NULL;
    int *shards = NULL, count = 0;
    hv_status status = hvi_rollout_refuse_each(rollout, error);
    if (status == HV_OK)
        status = hvi_rollout_shards(rollout, router, &shards, &count, error);
    if (status == HV_OK)
        status = hvi_crew_new(router, rollout, &crew, error);
    for (int i = 0; status == HV_OK && i < router->server_count; i++)
        status = add_server(crew, router, i, shards, count, l, error);
    if (status == HV_OK)
        status = hvi_crew_run(crew, NULL, NULL, error);
    if (status == HV_OK)
        status = note_shards(l, router, shards, count, error);
    hvi_crew_free(crew);
    free(shards);
    return status;
}

hv_status hvi_index_list(hvi_router *router, const hv_rollout *rollout, hv_indexes **indexes,
                         hv_error **error) {
    hv_rollout *copy = hvi_rollout_copy(rollout);
    hv_indexes *made = calloc(1, sizeof *made);
    list *l = calloc(1, sizeof *l);
    hv_status status = copy != NULL && made != NULL && l != NULL ? HV_OK : hvi_no_memory(error);
    if (status == HV_OK) {
        copy->canary = false;
        status = read_all(router, copy, l, error);
    }
    if (status == HV_OK)
        status = make_indexes(l, made, error);
    if (l != NULL)
        free_list(l);
    free(l);
    hv_rollout_free(copy);
    if (status != HV_OK) {
        hv_indexes_free(made);
        return status;
    }
    *indexes = made;
    return HV_OK;
}

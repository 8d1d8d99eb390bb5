/*
 * alloc_failure_bulk: the operations of alloc_failure that load, scan and find.
 *
 * Whatever allocation fails, either all of a load's transaction is on the server and its position
 * has moved, or neither; no row is wrongly refused; and the load can be continued, whether it is
 * still open or opened again. A scan has returned the shard's first entities in order, and another
 * one returns the rest.
 */
#include "alloc_failure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOADED 2 /* entities that a load adds … */
#define ROWS   5 /* … out of so many rows */

static hv_load *load;
static bool is_added; /* all rows are in the load */

/* ---- a load ---- */

/* A key of the shard that was never made and never will be: shortly before the known one. */
static int64_t older_key(int number) {
    return known_key - ((int64_t) number << 23);
}

static hv_status open_load(hv_error **error) {
    char name[32];
    snprintf(name, sizeof name, "load/%d", label);
    return hv_load_open(store, 0, name, &load, error);
}

static int64_t recorded_position(void) {
    char sql[96];
    snprintf(sql, sizeof sql, "SELECT position FROM hypervault.imports WHERE name = 'load/%d'",
             label);
    return observe(sql);
}

/* Rows under a new key, with malformed attributes, known already, under a given key, and in
 * conflict with an entity that is there: the first and the fourth will be stored. */
static hv_status add_rows(hv_error **error) {
    static const char nonsense[] = "nonsense";
    hv_dict *known = NULL, *own = NULL;
    char *binary = NULL;
    size_t len = 0;
    hv_status status = make_dict(KNOWN_LABEL, &known, error);
    if (status == HV_OK)
        status = make_dict(label, &own, error);
    if (status == HV_OK)
        status = hv_load_add(load, 0, SHARD, KIND, own, error);
    if (status == HV_OK)
        status = hv_load_add_binary(load, 0, SHARD, KIND, nonsense, strlen(nonsense), error);
    if (status == HV_OK)
        status = hv_load_add(load, known_key, SHARD, KIND, known, error);
    if (status == HV_OK)
        status = hv_dict_binary(own, &binary, &len, error);
    if (status == HV_OK)
        status = hv_load_add_binary(load, older_key(label), SHARD, KIND, binary, len, error);
    if (status == HV_OK)
        status = hv_load_add(load, known_key, SHARD, KIND, own, error);
    free(binary);
    hv_dict_free(own);
    hv_dict_free(known);
    is_added = status == HV_OK;
    return status;
}

static void require_row(size_t row, hv_status expected, bool expected_known) {
    const hv_error *why = NULL;
    bool known = false;
    hv_status status = hv_load_row(load, row, &known, &why);
    if (status != expected || known != expected_known ||
        (expected != HV_OK && (why == NULL || hv_error_status(why) != expected)))
        fail("row %zu: %s%s", row, hv_status_name(status), known ? ", known" : "");
}

static hv_status store_rows(hv_error **error) {
    size_t blocked;
    if (hv_load_count(load) != ROWS)
        fail("the load has %zu rows", hv_load_count(load));
    hv_status status = hv_load_send(load, ROWS, &blocked, error);
    if (status != HV_OK)
        return status;
    require_row(0, HV_OK, false);
    require_row(1, HV_REFUSED, false);
    require_row(2, HV_OK, true);
    require_row(3, HV_OK, false);
    require_row(4, HV_CONFLICT, false);
    return hv_load_commit(load, ROWS, "a note", error);
}

static void before_load(void) {
    open_and_use();
    load = NULL;
    is_added = false;
}

static hv_status act_load(hv_error **error) {
    hv_status status = open_load(error);
    if (status == HV_OK)
        status = add_rows(error);
    return status == HV_OK ? store_rows(error) : status;
}

/* All or nothing. */
static void require_reported(hv_status status) {
    int64_t stored = stored_in_this_run(), position = recorded_position();
    bool all = stored == LOADED && position == ROWS, nothing = stored == 0 && position == 0;
    bool as_reported = status == HV_OK ? all : nothing;
    if (!as_reported && !(status == HV_OUTCOME_UNKNOWN && all))
        fail("%s, but %" PRId64 " entities stored, and the position is %" PRId64,
             hv_status_name(status), stored, position);
}

static void require_all(void) {
    require_reported(HV_OK);
    if (hv_load_position(load) != ROWS || hv_load_count(load) != 0 ||
        strcmp(hv_load_note(load), "a note") != 0)
        fail("the load is at %" PRId64, hv_load_position(load));
    hv_load_free(load);
}

static void go_on_reopened(void) {
    hv_error *error = NULL;
    hv_load_free(load);
    must(open_load(&error), &error, "open the load again");
    if (hv_load_position(load) != 0)
        return;
    must(add_rows(&error), &error, "add the rows again");
    must(store_rows(&error), &error, "store them");
}

static void after_load(hv_status status) {
    require_reported(status);
    go_on_reopened();
    require_all();
}

/* A load that is still open is continued with the rows that are in it. */
static void after_load_kept(hv_status status) {
    hv_error *error = NULL;
    require_reported(status);
    if (!is_added) {
        go_on_reopened();
    } else if (status != HV_OK) {
        must(hv_load_send(load, ROWS, NULL, &error), &error, "send again");
        must(hv_load_commit(load, ROWS, "a note", &error), &error, "commit");
    }
    require_all();
}

/* ---- records of loads ---- */

static void before_first_load(void) {
    open_and_use();
    observe("DROP TABLE IF EXISTS hypervault.imports");
    load = NULL;
}

static void after_load_open(hv_status status) {
    hv_error *error = NULL;
    if ((status == HV_OK) != (load != NULL))
        fail("%s, but %s load", hv_status_name(status), load != NULL ? "a" : "no");
    if (load == NULL)
        must(open_load(&error), &error, "open the load again");
    if (hv_load_position(load) != 0 || hv_load_note(load) != NULL)
        fail("the load has begun");
    hv_load_free(load);
}

static int listed;

static void before_load_list(void) {
    open_and_use();
    observe("DELETE FROM hypervault.imports; INSERT INTO hypervault.imports (name, position, note)"
            " VALUES ('load/a', 1, 'a note'), ('load/b', 2, NULL), ('other', 3, NULL)");
}

static void list_one(void *context, const char *name, int64_t position, const char *note) {
    (void) context;
    listed++;
    if (strlen(name) != 6 || name[5] != (listed == 1 ? 'a' : 'b') || position != listed ||
        (note != NULL) != (listed == 1))
        fail("the record \"%s\" is at %" PRId64, name, position);
}

static hv_status act_load_list(hv_error **error) {
    listed = 0;
    return hv_load_list(store, 0, "load/", list_one, NULL, error);
}

static void after_load_list(hv_status status) {
    if (listed != (status == HV_OK ? 2 : 0))
        fail("%s, and %d loads listed", hv_status_name(status), listed);
}

/* ---- scans ---- */

#define SCANNED 4 /* entities: the known one, and older ones */

static int seen;
static int64_t last_seen;

static void before_scan(void) {
    char sql[320];
    open_and_use();
    snprintf(sql, sizeof sql,
             "DELETE FROM shard%04d.entities WHERE id <> %" PRId64 ";"
             "INSERT INTO shard%04d.entities SELECT id - (n::bigint << 23), type, body"
             " FROM shard%04d.entities, generate_series(1, %d) AS n",
             SHARD, known_key, SHARD, SHARD, SCANNED - 1);
    observe(sql);
    seen = 0;
    last_seen = 0;
}

static hv_status act_scan(hv_error **error) {
    hv_scan *scan = NULL;
    hv_status status = hv_scan_open(store, SHARD, last_seen + 1, 0, NULL, 0, &scan, error);
    while (status == HV_OK && (status = hv_scan_next(scan, error)) == HV_OK) {
        if (++seen > SCANNED || hv_scan_key(scan) != older_key(SCANNED - seen) ||
            hv_scan_kind(scan) != KIND || !is_dict(hv_scan_dict(scan), KNOWN_LABEL))
            fail("the scan brought another entity");
        last_seen = hv_scan_key(scan);
    }
    hv_scan_close(scan);
    return status == HV_NOT_FOUND ? HV_OK : status;
}

static void after_scan(hv_status status) {
    hv_error *error = NULL;
    if (status == HV_OUTCOME_UNKNOWN)
        fail("a read has a known outcome");
    if (status != HV_OK)
        must(act_scan(&error), &error, "scan the rest");
    if (seen != SCANNED)
        fail("the scan brought %d entities", seen);
}

/* ---- finds ---- */

/* Over both shards, though only one has entities. */
static hv_status select_rest(hv_selection **selection, hv_error **error) {
    static const char *const names[] = {NAME, "nothing", "filler", "absent", NULL};
    hv_selection *made = *selection = hv_selection_new();
    if (made == NULL)
        return HV_NO_MEMORY;
    hv_status status = hv_selection_kind(made, KIND, error);
    if (status == HV_OK)
        status = hv_selection_exists(made, NAME, HV_STRLEN, error);
    if (status == HV_OK)
        status = hv_selection_only(made, names, error);
    if (status == HV_OK && last_seen > 0)
        status = hv_selection_after(made, last_seen, error);
    return status;
}

static hv_status act_find(hv_error **error) {
    hv_reader *reader = NULL;
    hv_selection *selection = NULL;
    hv_status status = select_rest(&selection, error);
    if (status == HV_OK)
        status = hv_find(store, selection, &reader, error);
    hv_selection_free(selection);
    while (status == HV_OK && (status = hv_reader_next(reader, -1, error)) == HV_OK) {
        if (++seen > SCANNED || hv_reader_key(reader) != older_key(SCANNED - seen) ||
            hv_reader_kind(reader) != KIND || !is_dict(hv_reader_dict(reader), KNOWN_LABEL))
            fail("the find brought another entity");
        last_seen = hv_reader_key(reader);
    }
    hv_reader_close(reader);
    return status == HV_NOT_FOUND ? HV_OK : status;
}

static void after_find(hv_status status) {
    hv_error *error = NULL;
    if (status == HV_OUTCOME_UNKNOWN)
        fail("a read has a known outcome");
    if (status != HV_OK)
        must(act_find(&error), &error, "find the rest");
    if (seen != SCANNED)
        fail("the find brought %d entities", seen);
}

const operation_of bulk_operations[] = {
    {"load_open_first", before_first_load, open_load, after_load_open, false},
    {"load", before_load, act_load, after_load, false},
    {"load_kept", before_load, act_load, after_load_kept, false},
    {"load_list", before_load_list, act_load_list, after_load_list, false},
    {"scan", before_scan, act_scan, after_scan, false},
    {"scan_large", before_scan, act_scan, after_scan, true},
    {"find", before_scan, act_find, after_find, false},
    {"find_large", before_scan, act_find, after_find, true},
    {NULL, NULL, NULL, NULL, false},
};

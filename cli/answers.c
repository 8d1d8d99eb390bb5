/*
 * answers: the rows that SQL returns on several shards, as one table, CSV or NDJSON.
 */
#include "answers.h"

#include <inttypes.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "shard_list.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

/* How much is collected before it is written: bytes, rows of a table, and for how long. Rows that
 * come together stand in columns of the same width. */
#define PIECE      ((size_t) 64 << 10)
#define PIECE_ROWS 500
#define PIECE_US   300000

/* Types of PostgreSQL whose values can be numbers in JSON; and boolean. */
enum {
    BOOLEAN = 16,
    BIGINT = 20,
    SMALLINT = 21,
    INTEGER = 23,
    REAL = 700,
    DOUBLE = 701,
    NUMERIC = 1700
};

/* Statements without rows that did the same: "UPDATE". */
typedef struct deed {
    char *name;
    int64_t places;
    int64_t rows; /* -1: it does not count rows */
} deed;

struct answers {
    const hv_store *store;
    const row_format *format; /* NULL: a table */
    bool per_server;
    bool is_decided; /* an answer has come */
    bool has_rows;   /* … with rows */
    int count;       /* of its columns */
    char **names;    /* with that of the place, which is the first */
    Oid *types;
    ui_column *columns;
    ui_table *table; /* what is not shown yet, … */
    row_text text;   /* … in another form */
    int64_t rows;
    int64_t since_us; /* since when; 0: there is nothing */
    bool is_begun;    /* something was shown */
    deed *deeds;
    size_t deed_count;
    int first_place; /* the shard or server that decided on the columns */
    bool *different; /* by shard, or by server */
    size_t different_count;
};

answers *answers_new(const hv_store *store, const row_format *format, bool per_server) {
    answers *all = new_memory(sizeof *all);
    all->store = store;
    all->format = format;
    all->per_server = per_server;
    size_t places = per_server ? (size_t) hv_server_count(store) : HV_SHARDS;
    all->different = new_memory((places + 1) * sizeof *all->different);
    return all;
}

void answers_free(answers *all) {
    if (all == NULL)
        return;
    ui_table_free(all->table);
    row_text_fini(&all->text);
    for (int i = 0; all->names != NULL && i <= all->count; i++)
        free(all->names[i]);
    for (size_t i = 0; i < all->deed_count; i++)
        free(all->deeds[i].name);
    free(all->names);
    free(all->types);
    free(all->columns);
    free(all->deeds);
    free(all->different);
    free(all);
}

/* ---- Columns --------------------------------------------------------------------------------- */

static bool is_number_type(Oid type) {
    return type == BIGINT || type == SMALLINT || type == INTEGER || type == REAL ||
           type == DOUBLE || type == NUMERIC;
}

/* The name, or name_2 and so on if others before it have that: free() it. */
static char *unique_name(char *const *names, int count, const char *name) {
    char *unique = copy_text(name);
    for (int i = 0, number = 1; i < count; i++) {
        if (strcmp(names[i], unique) != 0)
            continue;
        free(unique);
        unique = format_text("%s_%d", name, ++number);
        i = -1; /* look at all of them again */
    }
    return unique;
}

static void append_csv(row_text *text, const char *value) {
    bool is_quoted = value[0] == '\0' || strpbrk(value, ",\"\r\n") != NULL;
    if (!is_quoted) {
        row_text_append(text, value, strlen(value));
        return;
    }
    row_text_append_byte(text, '"');
    for (; *value != '\0'; value++) {
        if (*value == '"')
            row_text_append_byte(text, '"');
        row_text_append_byte(text, *value);
    }
    row_text_append_byte(text, '"');
}

static void append_header(answers *all) {
    for (int i = 0; i <= all->count; i++) {
        if (i > 0)
            row_text_append_byte(&all->text, ',');
        append_csv(&all->text, all->names[i]);
    }
    row_text_append_byte(&all->text, '\n');
}

static void begin(answers *all, const PGresult *result) {
    all->count = PQnfields(result);
    size_t count = (size_t) all->count + 1;
    all->names = new_memory(count * sizeof *all->names);
    all->types = new_memory(count * sizeof *all->types);
    all->columns = new_memory(count * sizeof *all->columns);
    all->names[0] = copy_text(all->per_server ? "server" : "shard");
    all->columns[0] = (ui_column){all->names[0], !all->per_server};
    for (int i = 1; i <= all->count; i++) {
        all->names[i] = unique_name(all->names, i, PQfname(result, i - 1));
        all->types[i] = PQftype(result, i - 1);
        all->columns[i] = (ui_column){all->names[i], is_number_type(all->types[i])};
    }
    if (all->format == NULL)
        all->table = ui_table_new(all->columns, all->count + 1);
    else if (all->format == &row_csv)
        append_header(all);
}

static bool has_same_columns(const answers *all, const PGresult *result) {
    if (PQnfields(result) != all->count)
        return false;
    char **names = new_memory(((size_t) all->count + 1) * sizeof *names);
    bool is_same = true;
    names[0] = copy_text(all->names[0]);
    for (int i = 1; i <= all->count; i++) {
        names[i] = unique_name(names, i, PQfname(result, i - 1));
        is_same = is_same && strcmp(names[i], all->names[i]) == 0;
    }
    for (int i = 0; i <= all->count; i++)
        free(names[i]);
    free(names);
    return is_same;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

static char *place_name(const answers *all, int place) {
    return all->per_server ? copy_text(hv_server_name(all->store, place))
                           : format_text("%d", place);
}

/* Can it be a number in JSON that no program rounds? */
static bool is_json_number(Oid type, const char *value) {
    size_t digits = 0;
    if (!is_number_type(type))
        return false;
    for (const char *at = value; *at != '\0'; at++) {
        bool is_digit = *at >= '0' && *at <= '9';
        digits += is_digit;
        if (!is_digit && strchr("+-.e", *at) == NULL)
            return false; /* NaN, Infinity */
    }
    return digits <= 15;
}

static void append_value(row_text *text, Oid type, const char *value) {
    if (value == NULL)
        row_text_append(text, "null", 4);
    else if (type == BOOLEAN)
        row_text_append(text, value[0] == 't' ? "true" : "false", value[0] == 't' ? 4 : 5);
    else if (is_json_number(type, value))
        row_text_append(text, value, strlen(value));
    else
        row_text_append_json(text, value, strlen(value));
}

static void append_ndjson(answers *all, const PGresult *result, int row, const char *place) {
    row_text *text = &all->text;
    for (int i = 0; i <= all->count; i++) {
        row_text_append_byte(text, i == 0 ? '{' : ',');
        row_text_append_json(text, all->names[i], strlen(all->names[i]));
        row_text_append_byte(text, ':');
        if (i > 0)
            append_value(text, all->types[i],
                         PQgetisnull(result, row, i - 1) ? NULL : PQgetvalue(result, row, i - 1));
        else if (all->per_server)
            row_text_append_json(text, place, strlen(place));
        else
            row_text_append(text, place, strlen(place));
    }
    row_text_append(text, "}\n", 2);
}

static void append_csv_row(answers *all, const PGresult *result, int row, const char *place) {
    append_csv(&all->text, place);
    for (int i = 0; i < all->count; i++) {
        row_text_append_byte(&all->text, ',');
        if (!PQgetisnull(result, row, i))
            append_csv(&all->text, PQgetvalue(result, row, i));
    }
    row_text_append_byte(&all->text, '\n');
}

static void add_cells(answers *all, const PGresult *result, int row, const char *place) {
    ui_cell(all->table, UI_NAME, "%s", place);
    for (int i = 0; i < all->count; i++) {
        bool null = PQgetisnull(result, row, i);
        ui_cell(all->table, null ? UI_DIM : UI_PLAIN, "%s",
                null ? "NULL" : PQgetvalue(result, row, i));
    }
}

/* Write what was collected. On a terminal, progress makes room for it. CSV has no escapes: on a
 * terminal they are made. */
static void write_piece(answers *all) {
    if (all->text.failed)
        out_of_memory();
    if (all->table == NULL && all->text.len == 0)
        return;
    all->is_begun = true;
    ui_stderr_lock();
    if (all->table != NULL)
        ui_table_flush(all->table);
    else if (all->format == &row_csv && ui_is_terminal(stdout))
        ui_lines(stdout, all->text.data, all->text.len);
    else
        fwrite(all->text.data, 1, all->text.len, stdout);
    output_flush();
    ui_stderr_unlock();
    row_text_clear(&all->text);
    all->since_us = 0;
    all->rows = 0;
}

void answers_show_old(answers *all) {
    if (all->since_us != 0 && hvi_clock_us() - all->since_us >= PIECE_US)
        write_piece(all);
}

static void add_rows(answers *all, const PGresult *result, const char *place) {
    for (int row = 0; row < PQntuples(result) && output_ok(); row++) {
        if (all->table != NULL)
            add_cells(all, result, row, place);
        else if (all->format == &row_csv)
            append_csv_row(all, result, row, place);
        else
            append_ndjson(all, result, row, place);
        if (all->since_us == 0)
            all->since_us = hvi_clock_us();
        if (++all->rows >= PIECE_ROWS || all->text.len >= PIECE || all->text.failed)
            write_piece(all);
    }
}

/* ---- Statements without rows ----------------------------------------------------------------- */

static void add_deed(answers *all, PGresult *result) {
    const char *tag = PQcmdStatus(result);
    size_t len = strcspn(tag, "0123456789");
    while (len > 0 && tag[len - 1] == ' ')
        len--;
    deed *found = NULL;
    for (size_t i = 0; i < all->deed_count && found == NULL; i++)
        if (strlen(all->deeds[i].name) == len && strncmp(all->deeds[i].name, tag, len) == 0)
            found = &all->deeds[i];
    if (found == NULL) {
        all->deeds = resize_memory(all->deeds, (all->deed_count + 1) * sizeof *all->deeds);
        found = &all->deeds[all->deed_count++];
        *found = (deed){.name = format_text("%.*s", (int) len, tag)};
    }
    const char *rows = PQcmdTuples(result);
    found->places++;
    found->rows = rows[0] != '\0' && found->rows >= 0 ? found->rows + atoll(rows) : -1;
}

static void print_deed(const answers *all, const deed *of) {
    const char *unit = all->per_server ? "server" : "shard";
    char number[UI_NUMBER_SIZE], places[UI_NUMBER_SIZE];
    if (all->format == &row_ndjson) {
        char *member = format_text("%ss", unit);
        print_json(json_pack("{s:o, s:I, s:o}", "command", ui_json_text(of->name), member,
                             (json_int_t) of->places, "rows",
                             of->rows >= 0 ? json_integer(of->rows) : json_null()));
        free(member);
        return;
    }
    if (all->format == &row_csv) /* it has no rows, and so nothing */
        return;
    printf("%s%s%s on %s %s%s\n", of->name[0] != '\0' ? of->name : "done", of->rows >= 0 ? " " : "",
           of->rows >= 0 ? ui_number(number, of->rows) : "", ui_number(places, of->places), unit,
           of->places == 1 ? "" : "s");
}

/* ---- All of it ------------------------------------------------------------------------------- */

bool answers_add(answers *all, const hv_shard_answer *answer) {
    /* libpq has no const for what a command did */
    PGresult *result = (PGresult *) (uintptr_t) answer->result;
    int place = all->per_server ? answer->server : answer->shard;
    if (result == NULL)
        return true;
    bool has_rows = PQresultStatus(result) == PGRES_TUPLES_OK;
    if (!all->is_decided) {
        all->is_decided = true;
        all->has_rows = has_rows;
        all->first_place = place;
        if (has_rows)
            begin(all, result);
    }
    if (has_rows != all->has_rows || (has_rows && !has_same_columns(all, result))) {
        all->different[place] = true;
        all->different_count++;
        return false;
    }
    char *name = place_name(all, place);
    if (has_rows)
        add_rows(all, result, name);
    else
        add_deed(all, result);
    free(name);
    answers_show_old(all);
    return true;
}

void answers_end(answers *all) {
    if (all->table != NULL && !all->is_begun)
        ui_table_print(all->table); /* the titles, and what was collected */
    else
        write_piece(all);
    for (size_t i = 0; i < all->deed_count; i++)
        print_deed(all, &all->deeds[i]);
}

size_t answers_different(const answers *all) {
    return all->different_count;
}

bool answers_say_different(answers *all) {
    if (all->different_count == 0)
        return false;
    shard_list list = {0};
    char *first = place_name(all, all->first_place), *places;
    if (all->per_server) {
        places = copy_text("");
        for (int i = 0; i < hv_server_count(all->store); i++) {
            if (!all->different[i])
                continue;
            char *more = format_text("%s%s\"%s\"", places, places[0] != '\0' ? ", " : "",
                                     hv_server_name(all->store, i));
            free(places);
            places = more;
        }
    } else {
        for (int i = 0; i < HV_SHARDS; i++)
            if (all->different[i])
                shard_list_add(&list, i);
        places = shard_list_take(&list);
    }
    const char *unit = all->per_server ? "server" : "shard";
    char *detail = format_text("The answers of %s%s %s are not shown.", unit,
                               all->different_count == 1 ? "" : "s", places);
    ui_fail_status(HV_MISMATCH, detail,
                   "Name the columns in the SQL, or ask these shards alone with --shards.",
                   "the columns are not those of %s %s", unit, first);
    free(detail);
    free(places);
    free(first);
    return true;
}

/*
 * where_tool: selections as SQL, run by a server, to compare what they select with a model.
 *
 *     where_tool CONNINFO TABLE SCHEMA      the schema is hstore's, quoted
 *
 * Lines of the input build a selection; texts are in hexadecimal after an x, and - is NULL:
 *
 *     kind 5 | equal NAME VALUE | one_of NAME VALUE… | has NAME VALUE | exists NAME | lacks NAME
 *     run FIRST LAST     one line of output: the keys that it selects, in order; or "! MESSAGE".
 *                        Then a new selection begins.
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entity/where.h"

#define WORDS_MAX 100

_Noreturn static void die(const char *message) {
    fprintf(stderr, "where_tool: %s\n", message);
    exit(2);
}

static unsigned read_digit(char digit) {
    return (unsigned) (digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

/* Decode a text in place; NULL for "-". */
static char *read_text(char *word, size_t *len) {
    *len = 0;
    if (word[0] == '-')
        return NULL;
    char *to = word;
    for (const char *at = word + 1; at[0] != '\0'; at += 2)
        *to++ = (char) (read_digit(at[0]) << 4 | read_digit(at[1]));
    *to = '\0';
    *len = (size_t) (to - word);
    return word;
}

static hv_status add(hv_selection *selection, char **words, size_t count, hv_error **error) {
    const char *what = words[0], *texts[WORDS_MAX];
    size_t lengths[WORDS_MAX];
    if (strcmp(what, "kind") == 0)
        return hv_selection_kind(selection, atoi(words[1]), error);
    for (size_t i = 1; i < count; i++)
        texts[i] = read_text(words[i], &lengths[i]);
    if (strcmp(what, "equal") == 0)
        return hv_selection_equal(selection, texts[1], lengths[1], texts[2], lengths[2], error);
    if (strcmp(what, "one_of") == 0)
        return hv_selection_one_of(selection, texts[1], lengths[1], texts + 2, lengths + 2,
                                   count - 2, error);
    if (strcmp(what, "exists") == 0)
        return hv_selection_exists(selection, texts[1], lengths[1], error);
    if (strcmp(what, "lacks") == 0)
        return hv_selection_lacks(selection, texts[1], lengths[1], error);
    if (strcmp(what, "has") != 0)
        die("unknown command");
    hv_dict *dict = hv_dict_new();
    hv_status status = hv_dict_set_bytes(dict, texts[1], lengths[1], texts[2], lengths[2], error);
    if (status == HV_OK)
        status = hv_selection_has(selection, dict, error);
    hv_dict_free(dict);
    return status;
}

static void run(PGconn *conn, const char *table, const char *schema, const hv_selection *selection,
                hvi_key_range range) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_parameters parameters = HVI_PARAMETERS_EMPTY;
    hvi_query query = {0};
    hvi_buffer_append_format(&sql, "SELECT id FROM %s WHERE ", table);
    hvi_where_sql(&sql, selection, range, schema);
    hvi_buffer_append_text(&sql, " ORDER BY id");
    hvi_where_parameters(&parameters, selection, range);
    if (!hvi_buffer_ok(&sql) || !hvi_parameters_bind(&parameters, &query))
        die("out of memory");
    PGresult *result = PQexecParams(conn, sql.data, query.parameter_count, query.types,
                                    query.values, query.lengths, query.formats, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        printf("! %s", PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    for (int row = 0; row < PQntuples(result); row++)
        printf("%s%s", row > 0 ? " " : "", PQgetvalue(result, row, 0));
    putchar('\n');
    PQclear(result);
    hvi_parameters_fini(&parameters);
    hvi_buffer_fini(&sql);
}

int main(int argc, char **argv) {
    if (argc != 4)
        die("arguments: CONNINFO TABLE SCHEMA");
    PGconn *conn = PQconnectdb(argv[1]);
    if (PQstatus(conn) != CONNECTION_OK)
        die(PQerrorMessage(conn));
    hv_selection *selection = hv_selection_new();
    hv_error *failure = NULL; /* the first one */
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        char *words[WORDS_MAX], *rest = line;
        size_t count = 0;
        while (count < WORDS_MAX && (words[count] = strtok_r(rest, " \n", &rest)) != NULL)
            count++;
        if (strcmp(words[0], "run") != 0) {
            if (failure == NULL)
                add(selection, words, count, &failure);
            continue;
        }
        if (failure != NULL)
            printf("! %s\n", hv_error_message(failure));
        else
            run(conn, argv[2], argv[3], selection,
                (hvi_key_range){strtoll(words[1], NULL, 10), strtoll(words[2], NULL, 10)});
        fflush(stdout);
        hv_error_free(failure);
        failure = NULL;
        hv_selection_free(selection);
        selection = hv_selection_new();
    }
    free(line);
    hv_selection_free(selection);
    PQfinish(conn);
    return 0;
}

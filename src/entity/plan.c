/*
 * plan: what EXPLAIN says about reading a page of one shard.
 *
 *     Limit  (cost=0.29..1.44 rows=20 width=98)
 *       ->  Limit  (cost=0.29..3.33 rows=64 width=98)
 *             ->  Index Scan Backward using entities_pkey on entities  (cost=… rows=100000
 * width=98) Index Cond: ((id >= '1'::bigint) AND (id <= '9223372036854775807'::bigint))
 *
 * A node's line begins, after an arrow unless it is the first, with what it does, and ends with
 * what it costs. The lines below it that have no arrow are about it.
 */
#include "entity/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* So many entities are read or sorted in no time. */
#define MANY 10000

/* To read so many times as many entities as are found is worth an index. */
#define WASTEFUL 10

static const char arrow[] = "->  ";
static const char costs[] = "  (cost=";

void hvi_plan_fini(hvi_plan *plan) {
    hvi_buffer_fini(&plan->text);
}

/* ---- lines ---- */

static bool begins(const char *text, size_t len, const char *with) {
    return len >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

/* Does this line's part contain the words? */
static bool contains(const char *text, size_t len, const char *words) {
    return memmem(text, len, words, strlen(words)) != NULL;
}

/* The last place in the line at which its costs begin, or NULL. */
static const char *find_costs(const char *line) {
    const char *found = NULL;
    for (const char *at = line; (at = strstr(at, costs)) != NULL; at++)
        found = at;
    return found;
}

static int64_t rows_of(const char *found_costs) {
    const char *rows = strstr(found_costs, " rows=");
    double number = rows != NULL ? strtod(rows + 6, NULL) : 0;
    return number < 9e18 ? (int64_t) number : INT64_MAX;
}

/* Each statement for a page has these, and nothing else above what differs. */
static bool is_common(const char *node, size_t len) {
    return (len == 5 && begins(node, len, "Limit")) ||
           (begins(node, len, "Subquery Scan on ") && contains(node, len, "page"));
}

static void append_line(hvi_plan *plan, const char *line, size_t len, size_t margin) {
    while (margin > 0 && len > 0 && *line == ' ')
        line++, len--, margin--;
    hvi_buffer_append(&plan->text, line, len);
    hvi_buffer_append_byte(&plan->text, '\n');
}

static void note_node(hvi_plan *plan, const char *node, size_t len, int64_t rows) {
    plan->walks = -1;
    if (begins(node, len, "Seq Scan") || begins(node, len, "Parallel Seq Scan"))
        plan->reads_table = true;
    else if (begins(node, len, "Sort") || begins(node, len, "Incremental Sort"))
        plan->sorted = rows;
    else if (begins(node, len, "Index Scan") || begins(node, len, "Parallel Index Scan"))
        plan->walks = rows;
}

/* A line about the node that was the last. An index scan has its conditions before its filter. */
static void note_detail(hvi_plan *plan, const char *detail, size_t len) {
    if (begins(detail, len, "Index Cond:") && contains(detail, len, "body"))
        plan->walks = -1;
    else if (begins(detail, len, "Filter:") && plan->walks >= 0)
        plan->found = plan->walks;
}

void hvi_plan_add(hvi_plan *plan, const char *line) {
    size_t indent = strspn(line, " "), len = strlen(line);
    bool has_arrow = strncmp(line + indent, arrow, sizeof arrow - 1) == 0;
    const char *node = line + indent + (has_arrow ? sizeof arrow - 1 : 0);
    const char *end = find_costs(line);
    bool is_node = end != NULL && (has_arrow || indent == 0);
    if (!is_node) {
        note_detail(plan, line + indent, len - indent);
        if (plan->is_begun)
            append_line(plan, line, len, plan->margin);
        return;
    }
    size_t node_len = (size_t) (end - node);
    note_node(plan, node, node_len, rows_of(end));
    if (plan->is_begun) {
        append_line(plan, line, (size_t) (end - line), plan->margin);
    } else if (!is_common(node, node_len)) {
        plan->is_begun = true;
        plan->margin = (size_t) (node - line);
        append_line(plan, node, node_len, 0);
    }
}

/* ---- warnings ---- */

void hvi_plan_warn(const hvi_plan *plan, int64_t total, int64_t limit, hvi_buffer *warning) {
    if (plan->reads_table && total > MANY) {
        hvi_buffer_append_format(
            warning, "The whole table is read, about %" PRId64 " entities, as no index fits.",
            total);
    } else if (plan->sorted > MANY) {
        hvi_buffer_append_format(warning, "About %" PRId64 " entities are sorted.", plan->sorted);
    } else if (plan->found >= 0) {
        int64_t found = plan->found > 0 ? plan->found : 1;
        int64_t wanted = limit > 0 && limit < found ? limit : found;
        int64_t read = (int64_t) ((double) total / (double) found * (double) wanted);
        if (read > MANY && read / WASTEFUL > wanted)
            hvi_buffer_append_format(
                warning, "About %" PRId64 " entities are read to find %" PRId64 ".", read, wanted);
    }
}

/* ---- the question ---- */

typedef struct plan_ask {
    hvi_ask ask;
    hvi_page page;
    hvi_buffer sql;
    hvi_parameters parameters;
} plan_ask;

static const hvi_form lines = {
    .asked = "a plan",
    .rows = HVI_ANY_ROWS,
    .binary = true,
    .columns = {HVI_IS_BYTES},
};

static bool query(hvi_ask *asked, const hvi_session *session, hvi_query *query) {
    plan_ask *ask = (plan_ask *) asked; /* its first member */
    hvi_buffer_reset(&ask->sql);
    hvi_parameters_reset(&ask->parameters);
    ask->parameters.log = session->config->log.parameters;
    hvi_buffer_append_text(&ask->sql, "EXPLAIN ");
    hvi_page_sql(&ask->sql, &ask->page, session->hstore_schema, session->reads_text);
    hvi_page_parameters(&ask->parameters, &ask->page);
    query->sql = ask->sql.data;
    return hvi_buffer_ok(&ask->sql) && hvi_parameters_bind(&ask->parameters, query);
}

static void free_ask(hvi_ask *asked) {
    plan_ask *ask = (plan_ask *) asked;
    hvi_buffer_fini(&ask->sql);
    hvi_parameters_fini(&ask->parameters);
    free(ask);
}

hvi_ask *hvi_plan_ask(const hvi_page *page) {
    plan_ask *ask = calloc(1, sizeof *ask);
    if (ask == NULL)
        return NULL;
    ask->ask = (hvi_ask){.answer = &lines, .query = query, .free = free_ask};
    ask->page = *page;
    return &ask->ask;
}

/*
 * page: the statement that reads a page of a portion of shards, merged by the server; and its rows.
 *
 * Within a statement each shard's branch has an ORDER BY and a LIMIT, so that the server merges
 * what it reads from the indexes, and reads no more than it returns (a Merge Append). The limit of
 * the branches is one of a few literals, which the planner can reckon with; how many rows are
 * really wanted is a parameter, as all other values are. So there are few different texts.
 */
#ifndef HVI_PAGE_H
#define HVI_PAGE_H

#include "wire/statement_texts.h"
#include "entity/portion.h"
#include "entity/question.h"
#include "entity/where.h"

#define HVI_PAGE_MAX_ROWS 1000

/* What keeps a page from taking much memory. */
typedef enum hvi_page_care {
    HVI_PAGE_ANY_SIZE, /* nothing */
    /* Large bodies are left out, which costs the server next to nothing: the page ends there. */
    HVI_PAGE_SMALL_ROWS,
    /* It ends after the row that brings it to `bytes` bytes of attributes, as far as the server
     * knows that without reading them. Their running sum costs as much as half of the page. */
    HVI_PAGE_MEASURED,
} hvi_page_care;

/* What is wanted. */
typedef struct hvi_page {
    const hv_selection *selection; /* but its bounds, which are … */
    hvi_key_range range;
    hvi_portion portion;
    int rows; /* at most so many: 1 to HVI_PAGE_MAX_ROWS */
    hvi_page_care care;
    int64_t bytes; /* of HVI_PAGE_MEASURED */
} hvi_page;

/* Append the statement for a session of this schema of hstore, which `reads_text`: see
 * hvi_body_column(). Its columns are id, type and body; of small rows, whether body is NULL in the
 * table, too; of a measured page, whether it ends here. */
void hvi_page_sql(hvi_buffer *sql, const hvi_page *page, const char *hstore_schema,
                  bool reads_text);

/* Append its parameters, to none. */
void hvi_page_parameters(hvi_parameters *parameters, const hvi_page *page);

/*
 * Set up a question for the page, whose selection and shards must last as long as the operation.
 * *to is as hvi_question_init() says. Errors: HV_NO_MEMORY.
 */
hv_status hvi_page_init(hvi_operation *operation, const hvi_page *page, hvi_router *router,
                        hvi_statement_texts *texts, PGresult **to, hv_error **error);

/* ---- its rows ---- */

/* How many rows are complete. *is_cut: does the page end there because of their size, so that more
 * may follow though these are fewer than were wanted? If it is one of small rows, the next row of
 * the result has the key of the large one. */
int hvi_page_rows(const PGresult *result, hvi_page_care care, bool *is_cut);

/* The key of a row. */
int64_t hvi_page_key(const PGresult *result, int row);

/* Its kind and attributes. Errors: HV_CORRUPT, naming the key if one of them is NULL,
 * HV_NO_MEMORY. */
hv_status hvi_page_row(const PGresult *result, int row, const hvi_portion *portion, int *kind,
                       hv_dict **dict, hv_error **error);

#endif

/*
 * fuzz_script: any text is refused with its line, or cut into statements that are in order, do not
 * overlap, and are cut in the same way again.
 */
#include <string.h>

#include "schema/migrations.h"
#include "fuzz.h"

static void look_at(const hvi_sql *sql, size_t i) {
    const hvi_sql_statement *statement = &sql->statements[i];
    const char *text = sql->text + statement->begin;
    size_t len = statement->end - statement->begin;
    hvi_buffer made = HVI_BUFFER_EMPTY;
    expect(statement->begin < statement->end && statement->end <= sql->len);
    expect(i == 0 || statement[-1].end < statement->begin);
    expect(i == 0 || statement[-1].line <= statement->line);
    expect(hvi_sql_line(sql, statement->begin) == statement->line);
    hvi_concurrently_read(text, len);
    hvi_sql_excerpt(sql, i, 60, &made);
    expect(made.len > 0 && made.len <= 60);
    hvi_buffer_reset(&made);
    hvi_sql_append(sql, statement->begin, statement->end, "shard0012", &made);
    expect(made.len >= len && hvi_sql_offset(sql, statement->begin, statement->end, "shard0012",
                                             (int) made.len + 1) == statement->end);
    hvi_buffer_fini(&made);
    hvi_sql again;
    expect(hvi_sql_read(&again, NULL, text, len, NULL) == HV_OK);
    expect(again.count == 1 && again.statements[0].begin == 0 && again.statements[0].end == len);
    hvi_sql_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    hvi_sql sql;
    hv_error *error = NULL;
    hv_status status = hvi_sql_read(&sql, "f", (const char *) data, size, &error);
    if (status != HV_OK) {
        expect(status == HV_INVALID);
        expect(strncmp(hv_error_message(error), "f:", 2) == 0);
        hv_error_free(error);
    }
    for (size_t i = 0; status == HV_OK && i < sql.count; i++)
        look_at(&sql, i);
    hvi_sql_fini(&sql);
    return 0;
}

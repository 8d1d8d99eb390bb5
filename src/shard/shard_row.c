/*
 * shard_row: the faults that keep a shard from being ready, and the words for them.
 */
#include "shard/shard_row.h"

const hvi_shard_row *hvi_shard_row_find(const hvi_shard_row *rows, size_t count, int shard) {
    for (size_t i = 0; i < count; i++)
        if (rows[i].shard == shard)
            return &rows[i];
    return NULL;
}

hv_status hvi_fail_not_initialized(const char *server, int shard, hv_error **error) {
    hvi_fail(error, HV_NOT_INITIALIZED, "shard %d is not initialised on server \"%s\"", shard,
             server);
    hvi_error_hint(error, "Run `hv init`. If another server holds the shard, correct \"shards\" in "
                          "the configuration instead; `hv status` shows where it is.");
    hvi_error_where(error, server, shard);
    return HV_NOT_INITIALIZED;
}

/* `hv init` makes what is missing; the operator must change what is in the way. */
typedef struct fault_words {
    unsigned fault;
    const char *detail;
    const char *hint;
} fault_words;

static const char run_init[] = "Run `hv init`, which adds what is missing.";

static const fault_words words[] = {
    {HVI_FAULT_NO_TABLE, "there is no table entities", run_init},
    {HVI_FAULT_TABLE_FORM,
     "entities is not a table with id bigint PRIMARY KEY, type smallint, body hstore and no other "
     "column that has to be given a value",
     "Alter it, or rename it and run `hv init`."},
    {HVI_FAULT_TYPE_NULLABLE, "the column type of entities may be NULL",
     "ALTER TABLE entities ALTER COLUMN type SET NOT NULL, after rows without a type are gone."},
    {HVI_FAULT_BODY_NULLABLE, "the column body of entities may be NULL",
     "ALTER TABLE entities ALTER COLUMN body SET NOT NULL, after rows without a body are gone."},
    {HVI_FAULT_NO_SEQUENCE, "there is no sequence table_id_seq", run_init},
    {HVI_FAULT_SEQUENCE_FORM, "table_id_seq is not a sequence",
     "Rename the object that has this name, and run `hv init`."},
    {HVI_FAULT_NO_FUNCTION, "there is no function next_id()", run_init},
    {HVI_FAULT_FUNCTION_FORM, "next_id() does not return a bigint",
     "Rename the function, and run `hv init`."},
    {HVI_FAULT_NO_EXTENSION,
     "its keys are strict, but the extension hypervault that makes them is not installed",
     hvi_generator_extension_hint},
    {HVI_FAULT_EXTENSION,
     "its keys are strict, but the extension hypervault that makes them is too old, or its library "
     "cannot be loaded",
     "Install hypervault's extension on the server's machine, run ALTER EXTENSION hypervault "
     "UPDATE and `hv init`, or run `hv init --keys portable`, which does not need it."},
    {HVI_FAULT_NO_RESERVING, "the function or sequence that reserves keys is missing", run_init},
    {HVI_FAULT_NO_DEFAULT, "the column id has no default", run_init},
    {HVI_FAULT_OLD_FUNCTIONS,
     "an earlier version made its next_id(), which runs functions that other roles put into a "
     "schema on the search_path",
     "Run `hv init`, which replaces it."},
};

#define WORDS (sizeof words / sizeof words[0])

static unsigned when(bool is_so, unsigned fault) {
    return is_so ? fault : 0;
}

static unsigned table_faults(const hvi_shard_row *row) {
    if (!row->has_table)
        return HVI_FAULT_NO_TABLE;
    if (!row->table_fits)
        return HVI_FAULT_TABLE_FORM;
    return when(!row->type_not_null, HVI_FAULT_TYPE_NULLABLE) |
           when(!row->body_not_null, HVI_FAULT_BODY_NULLABLE) |
           when(!row->has_default, HVI_FAULT_NO_DEFAULT);
}

static unsigned key_faults(const hvi_shard_row *row) {
    unsigned faults = 0;
    if (!row->has_sequence)
        faults |= HVI_FAULT_NO_SEQUENCE;
    else if (!row->sequence_fits)
        faults |= HVI_FAULT_SEQUENCE_FORM;
    if (row->generator == HVI_GENERATOR_NONE)
        return faults | HVI_FAULT_NO_FUNCTION;
    if (!row->function_fits)
        return faults | HVI_FAULT_FUNCTION_FORM;
    return faults |
           when(row->generator == HVI_GENERATOR_STRICT && !row->has_extension,
                HVI_FAULT_NO_EXTENSION) |
           when(row->is_old, HVI_FAULT_OLD_FUNCTIONS) |
           when(row->has_sequence && !hvi_shard_row_makes_keys(row), HVI_FAULT_NO_RESERVING);
}

unsigned hvi_shard_row_faults(const hvi_shard_row *row) {
    return table_faults(row) | key_faults(row);
}

/* Append a text to those before it, unless it is there already. */
static void append_once(hvi_buffer *to, const char *separator, const char *text,
                        const char *const *before, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (before[i] == text)
            return;
    hvi_buffer_append_format(to, "%s%s", count > 0 ? separator : "", text);
}

void hvi_shard_faults_explain(unsigned faults, hvi_buffer *detail, hvi_buffer *hint) {
    const char *details[WORDS], *hints[WORDS];
    size_t count = 0;
    for (size_t i = 0; i < WORDS; i++) {
        if ((faults & words[i].fault) == 0)
            continue;
        if (detail != NULL)
            append_once(detail, "; ", words[i].detail, details, count);
        if (hint != NULL)
            append_once(hint, " ", words[i].hint, hints, count);
        details[count] = words[i].detail;
        hints[count++] = words[i].hint;
    }
}

/*
 * schema_copy: the schema of a shard, made on another server under another name, by pg_dump.
 *
 * The dump is restored under the live name, so that every text in it (bodies of functions, SET
 * search_path, defaults) is right when the copy is published; but in one transaction, at whose end
 * the schema is renamed: nobody ever sees the live name there.
 */
#ifndef HVI_SCHEMA_COPY_H
#define HVI_SCHEMA_COPY_H

#include "move/link.h"
#include "move/names.h"

typedef struct hvi_schema_copy {
    hvi_link *from, *to;
    int shard;
    bool no_late_keys; /* all keys are made with the tables */
    const char *live;  /* "shard0012" */
    const char *name;  /* of the copy */
} hvi_schema_copy;

/* The SQL that makes a copy, in three parts, under the live name. */
typedef struct hvi_schema_texts {
    hvi_buffer before;     /* the tables with all but late keys, by which replication finds rows */
    hvi_buffer late_table; /* a large one without its keys, as in SQL; "": none */
    hvi_buffer late_keys;  /* those */
    hvi_buffer after;      /* all the rest */
} hvi_schema_texts;

/* Append to these. Runs pg_dump. */
hv_status hvi_schema_copy_dump(const hvi_schema_copy *copy, hvi_schema_texts *texts,
                               int64_t deadline, hv_error **error);

void hvi_schema_texts_fini(hvi_schema_texts *texts);

/* Make the copy of the first of these, in place of one that an interrupted try has left. `also` is
 * run in the same transaction; it ends with ";". */
hv_status hvi_schema_copy_make(const hvi_schema_copy *copy, const hvi_buffer *before,
                               const char *also, int64_t deadline, hv_error **error);

/* Append the transaction that makes the rest, likewise.
 * Triggers that fire for replicated rows are disabled. */
void hvi_schema_copy_rest_sql(const hvi_schema_copy *copy, const hvi_buffer *after,
                              const char *also, hvi_buffer *sql);

/* Drop a schema that is a copy, or an old one, on this link, if it is there. Refuses, with
 * HV_MISMATCH, if anything in it is part of a table elsewhere, or the other way. */
hv_status hvi_schema_copy_drop(hvi_link *link, const char *name, int64_t deadline,
                               hv_error **error);

/* Append the statements that enable in the schema `live` the triggers that fire for replicated
 * rows, too, and are disabled in a copy; they are read on `from`. */
hv_status hvi_schema_copy_triggers_sql(hvi_link *from, const char *live, hvi_buffer *sql,
                                       int64_t deadline, hv_error **error);

/* Append the statements that disable those triggers in a schema, which is a copy from now on. */
void hvi_schema_copy_quiet_sql(const char *name, hvi_buffer *sql);

#endif

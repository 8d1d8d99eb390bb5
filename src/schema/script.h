/*
 * script: a text of SQL, cut into its statements as the server does it.
 *
 * "@shard" as a word of its own is replaced by the schema's name wherever it is, in strings and the
 * bodies of functions too: the characters next to it are none of a name, and the one before it is
 * none of an operator.
 *
 * A text must leave the transaction to its caller, so COMMIT and the like are refused. Strings are
 * read as with standard_conforming_strings on.
 */
#ifndef HVI_SCHEMA_SCRIPT_H
#define HVI_SCHEMA_SCRIPT_H

#include "base/buffer.h"

/* What the text is made of. Comments and white space are between the tokens. */
typedef enum hvi_token_kind {
    HVI_TOKEN_WORD,   /* a keyword or a name without quotes */
    HVI_TOKEN_NAME,   /* a name in quotes */
    HVI_TOKEN_STRING, /* of any kind */
    HVI_TOKEN_SIGN,   /* one character of anything else; digits and points of a number are one */
    HVI_TOKEN_END,
} hvi_token_kind;

typedef struct hvi_token {
    hvi_token_kind kind;
    const char *begin;
    const char *end;
} hvi_token;

/* The next token from *at on; *at is set to its end. A string or comment that does not end is
 * HVI_TOKEN_END, before the end of the text. */
hvi_token hvi_token_next(const char **at, const char *end);

/* Is it this word, in whatever case? `word` is in lower case. */
bool hvi_token_is(const hvi_token *token, const char *word);
bool hvi_token_is_sign(const hvi_token *token, char sign);

typedef struct hvi_sql_statement {
    size_t begin; /* its first token, in bytes */
    size_t end;   /* its last token's end, without the semicolon */
    int line;     /* from 1 */
} hvi_sql_statement;

typedef struct hvi_sql {
    char *name; /* the file's, for messages; owned; NULL: none */
    char *text; /* owned */
    size_t len;
    hvi_sql_statement *statements; /* owned */
    size_t count;
    bool no_transaction; /* it has the line "-- hv: no-transaction" */
} hvi_sql;

/*
 * Read a text, which is copied. "-- hv:" lines are for files: texts with a name. Errors
 * (HV_INVALID, with the line): text that is not UTF-8, a quote or comment that does not end, COMMIT
 * and the like, COPY from or to the client, a command of psql, a "-- hv:" line that is unknown or
 * after the first statement; HV_NO_MEMORY. hvi_sql_fini() it in any case.
 */
hv_status hvi_sql_read(hvi_sql *sql, const char *name, const char *text, size_t len,
                       hv_error **error);
void hvi_sql_fini(hvi_sql *sql);

/* Append the bytes from `begin` to `end`, with the schema's name in place of @shard. */
void hvi_sql_append(const hvi_sql *sql, size_t begin, size_t end, const char *schema,
                    hvi_buffer *to);

/* The offset in the text of the character `position`, from 1, of what hvi_sql_append() made. */
size_t hvi_sql_offset(const hvi_sql *sql, size_t begin, size_t end, const char *schema,
                      int position);

/* The line of an offset, from 1. */
int hvi_sql_line(const hvi_sql *sql, size_t offset);

/* Put the place in front of an error's message: "0007_add_score.sql:3: ", or "line 3: ". */
void hvi_sql_locate(const hvi_sql *sql, int line, hv_error **error);

/* Does a statement begin with these words, in lower case with one space between them? */
bool hvi_sql_begins(const hvi_sql *sql, size_t statement, const char *words);

/* Append the beginning of a statement, for people: on one line, without comments. */
void hvi_sql_excerpt(const hvi_sql *sql, size_t statement, size_t max, hvi_buffer *to);

/* How many characters a text has, as a server counts them in the position of an error. */
size_t hvi_sql_characters(const hvi_buffer *text);

#endif

/*
 * script: a text of SQL, cut into its statements as the server does it.
 *
 * The rules are those of PostgreSQL's scan.l, as far as they decide where a statement ends. Where
 * the server would refuse the whole text, because of a parenthesis that does not close for
 * instance, it does not matter where it is cut: the server parses a text before it runs any of it.
 */
#include "schema/script.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#define MARK     "@shard"
#define MARK_LEN (sizeof MARK - 1)

/* ---- tokens ---- */

static bool begins_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char) c >= 128;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_of_name(char c) {
    return begins_name(c) || is_digit(c) || c == '$';
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_line_end(char c) {
    return c == '\n' || c == '\r';
}

static bool starts(const char *at, const char *end, const char *two) {
    return end - at >= 2 && at[0] == two[0] && at[1] == two[1];
}

static const char *skip_line(const char *at, const char *end) {
    while (at < end && !is_line_end(*at))
        at++;
    return at;
}

/* From behind the comment's opening on; NULL if it does not end. */
static const char *skip_comment(const char *at, const char *end) {
    for (int depth = 1; at < end;) {
        if (starts(at, end, "/*")) {
            depth++;
            at += 2;
        } else if (starts(at, end, "*/")) {
            at += 2;
            if (--depth == 0)
                return at;
        } else {
            at++;
        }
    }
    return NULL;
}

/* White space and comments. False if a comment does not end; *at is then its beginning. */
static bool skip_blank(const char **at, const char *end) {
    for (;;) {
        if (*at < end && is_space(**at)) {
            ++*at;
        } else if (starts(*at, end, "--")) {
            *at = skip_line(*at, end);
        } else if (starts(*at, end, "/*")) {
            const char *after = skip_comment(*at + 2, end);
            if (after == NULL)
                return false;
            *at = after;
        } else {
            return true;
        }
    }
}

/* From behind a quote on to behind the one that ends it; NULL if none does. */
static const char *skip_quoted(const char *at, const char *end, char quote, bool escapes) {
    for (; at < end; at++) {
        if (*at == '\\' && escapes && end - at >= 2)
            at++;
        else if (*at == quote && end - at >= 2 && at[1] == quote)
            at++;
        else if (*at == quote)
            return at + 1;
    }
    return NULL;
}

/* A string goes on behind its quote if another quote follows on a later line. */
static const char *continuation(const char *at, const char *end) {
    bool later_line = false;
    for (; at < end; at++) {
        if (starts(at, end, "--"))
            at = skip_line(at, end);
        if (at == end || !is_space(*at))
            break;
        later_line = later_line || is_line_end(*at);
    }
    return later_line && at < end && *at == '\'' ? at + 1 : NULL;
}

static const char *skip_string(const char *at, const char *end, bool escapes) {
    while ((at = skip_quoted(at, end, '\'', escapes)) != NULL) {
        const char *more = continuation(at, end);
        if (more == NULL)
            break;
        at = more;
    }
    return at;
}

/* The end of the "$tag$" here; NULL if there is none. */
static const char *dollar_tag(const char *at, const char *end) {
    const char *tag = at + 1;
    if (tag < end && begins_name(*tag))
        while (tag < end && is_of_name(*tag) && *tag != '$')
            tag++;
    return tag < end && *tag == '$' ? tag + 1 : NULL;
}

static const char *skip_dollar(const char *at, const char *body, const char *end) {
    size_t len = (size_t) (body - at);
    for (; (size_t) (end - body) >= len; body++)
        if (memcmp(body, at, len) == 0)
            return body + len;
    return NULL;
}

/* The token that begins here, which is neither white space nor a comment. */
static hvi_token token_at(const char *at, const char *end) {
    hvi_token token = {.kind = HVI_TOKEN_SIGN, .begin = at, .end = at + 1};
    const char *quote = at, *body;
    /* E'', B'', X'', N'', U&'' and U&"" */
    if (end - at >= 2 && strchr("eEbBxXnN", *at) != NULL && at[1] == '\'')
        quote = at + 1;
    else if (end - at >= 3 && (*at == 'u' || *at == 'U') && at[1] == '&' &&
             (at[2] == '\'' || at[2] == '"'))
        quote = at + 2;
    if (*quote == '\'') {
        token.kind = HVI_TOKEN_STRING;
        token.end = skip_string(quote + 1, end, *at == 'e' || *at == 'E');
    } else if (*quote == '"') {
        token.kind = HVI_TOKEN_NAME;
        token.end = skip_quoted(quote + 1, end, '"', false);
    } else if (*at == '$' && (body = dollar_tag(at, end)) != NULL) {
        token.kind = HVI_TOKEN_STRING;
        token.end = skip_dollar(at, body, end);
    } else if (begins_name(*at)) {
        token.kind = HVI_TOKEN_WORD;
        while (token.end < end && is_of_name(*token.end))
            token.end++;
    } else if (is_digit(*at)) {
        while (token.end < end && (is_digit(*token.end) || *token.end == '.'))
            token.end++;
    }
    if (token.end == NULL)
        token = (hvi_token){.kind = HVI_TOKEN_END, .begin = at, .end = at};
    return token;
}

hvi_token hvi_token_next(const char **at, const char *end) {
    hvi_token token = {.kind = HVI_TOKEN_END};
    if (skip_blank(at, end) && *at < end)
        token = token_at(*at, end);
    else
        token.begin = token.end = *at;
    *at = token.end;
    return token;
}

bool hvi_token_is(const hvi_token *token, const char *word) {
    size_t len = strlen(word);
    return token->kind == HVI_TOKEN_WORD && (size_t) (token->end - token->begin) == len &&
           strncasecmp(token->begin, word, len) == 0;
}

bool hvi_token_is_sign(const hvi_token *token, char sign) {
    return token->kind == HVI_TOKEN_SIGN && *token->begin == sign;
}

/* ---- statements ---- */

/* Where the reading of a text has come to. */
typedef struct hvi_reading {
    hvi_sql *sql;
    const char *end;
    int line; /* of `counted` */
    const char *counted;
    size_t room; /* for statements */

    /* Of the statement that is being read. */
    hvi_token first[2];
    hvi_token last; /* its last token */
    size_t tokens;
    int depth;       /* of parentheses */
    int blocks;      /* of BEGIN ATOMIC and CASE in it */
    bool is_routine; /* CREATE FUNCTION or PROCEDURE */
} hvi_reading;

/* The line of a place that is not before those that were asked for. */
static int line_of(hvi_reading *reading, const char *at) {
    for (; reading->counted < at; reading->counted++)
        if (*reading->counted == '\n' ||
            (*reading->counted == '\r' &&
             (reading->counted + 1 == reading->end || reading->counted[1] != '\n')))
            reading->line++;
    return reading->line;
}

static hv_status fail_at(hvi_reading *reading, const char *at, hv_error **error,
                         const char *message) {
    hvi_fail(error, HV_INVALID, "%s", message);
    hvi_sql_locate(reading->sql, line_of(reading, at), error);
    return HV_INVALID;
}

static hv_status fail_unended(hvi_reading *reading, const char *at, hv_error **error) {
    const char *what = "a string does not end";
    if (starts(at, reading->end, "/*"))
        what = "a comment does not end";
    else if (*at == '"' || (starts(at, reading->end, "U&") && at[2] == '"'))
        what = "a name in quotes does not end";
    fail_at(reading, at, error, what);
    hvi_error_detail(error, "It begins in this line.");
    return HV_INVALID;
}

/* Does the statement end the transaction, or begin one? SAVEPOINT, RELEASE and ROLLBACK TO do
 * not. */
static bool is_of_transactions(const hvi_reading *reading) {
    static const char *const words[] = {"begin", "commit", "end", "abort"};
    const hvi_token *first = reading->first;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (hvi_token_is(first, words[i]))
            return true;
    return (hvi_token_is(first, "start") || hvi_token_is(first, "prepare"))
               ? hvi_token_is(first + 1, "transaction")
               : false;
}

/* ROLLBACK [WORK | TRANSACTION] TO [SAVEPOINT] name is allowed. */
static bool is_rollback(const hvi_token *first, const char *end) {
    if (!hvi_token_is(first, "rollback"))
        return false;
    const char *at = first->end;
    hvi_token token = hvi_token_next(&at, end);
    if (hvi_token_is(&token, "work") || hvi_token_is(&token, "transaction"))
        token = hvi_token_next(&at, end);
    return !hvi_token_is(&token, "to");
}

/* SET [LOCAL | SESSION] standard_conforming_strings would change how the rest is read. */
static bool changes_strings(const hvi_token *first, const char *end) {
    if (!hvi_token_is(first, "set"))
        return false;
    const char *at = first->end;
    hvi_token token = hvi_token_next(&at, end);
    if (hvi_token_is(&token, "local") || hvi_token_is(&token, "session"))
        token = hvi_token_next(&at, end);
    return hvi_token_is(&token, "standard_conforming_strings");
}

static hv_status check_statement(hvi_reading *reading, hv_error **error) {
    const hvi_token *first = reading->first;
    if (is_of_transactions(reading) || is_rollback(first, reading->end)) {
        fail_at(reading, first->begin, error, "a statement that begins or ends a transaction");
        hvi_error_detail(error,
                         "%.*s is not allowed, since each shard's transaction is recorded "
                         "when it is committed.",
                         (int) (first->end - first->begin), first->begin);
        hvi_error_hint(error, "Remove it. SAVEPOINT and ROLLBACK TO are allowed.");
        return HV_INVALID;
    }
    if (changes_strings(first, reading->end))
        return fail_at(reading, first->begin, error,
                       "standard_conforming_strings cannot be changed here");
    return HV_OK;
}

static hv_status end_statement(hvi_reading *reading, hv_error **error) {
    hvi_sql *sql = reading->sql;
    if (reading->tokens == 0)
        return HV_OK;
    hv_status status = check_statement(reading, error);
    if (status != HV_OK)
        return status;
    if (sql->count == reading->room) {
        size_t room = reading->room > 0 ? reading->room * 2 : 8;
        void *grown = realloc(sql->statements, room * sizeof *sql->statements);
        if (grown == NULL)
            return hvi_no_memory(error);
        sql->statements = grown;
        reading->room = room;
    }
    sql->statements[sql->count++] = (hvi_sql_statement){
        .begin = (size_t) (reading->first[0].begin - sql->text),
        .end = (size_t) (reading->last.end - sql->text),
        .line = line_of(reading, reading->first[0].begin),
    };
    reading->tokens = 0;
    reading->depth = reading->blocks = 0;
    reading->is_routine = false;
    return HV_OK;
}

/* The body of a function may be BEGIN ATOMIC …; …; END, in which CASE … END may be. */
static void follow_blocks(hvi_reading *reading, const hvi_token *token) {
    if (hvi_token_is(token, "function") || hvi_token_is(token, "procedure"))
        reading->is_routine =
            reading->is_routine || (hvi_token_is(reading->first, "create") && reading->tokens <= 4);
    if (!reading->is_routine || reading->depth > 0)
        return;
    if (reading->blocks == 0)
        reading->blocks = hvi_token_is(token, "atomic") && hvi_token_is(&reading->last, "begin");
    else if (hvi_token_is(token, "case"))
        reading->blocks++;
    else if (hvi_token_is(token, "end"))
        reading->blocks--;
}

/* COPY needs data that there is none of. */
static bool copies_to_client(const hvi_reading *reading, const hvi_token *token) {
    if (!hvi_token_is(reading->first, "copy") || reading->tokens < 2)
        return false;
    return (hvi_token_is(token, "stdin") && hvi_token_is(&reading->last, "from")) ||
           (hvi_token_is(token, "stdout") && hvi_token_is(&reading->last, "to"));
}

static hv_status take_token(hvi_reading *reading, const hvi_token *token, hv_error **error) {
    if (hvi_token_is_sign(token, '\\')) {
        fail_at(reading, token->begin, error, "a backslash outside quotes");
        hvi_error_detail(error, "Commands of psql are not SQL.");
        return HV_INVALID;
    }
    if (hvi_token_is_sign(token, ';') && reading->depth == 0 && reading->blocks == 0)
        return end_statement(reading, error);
    if (copies_to_client(reading, token)) {
        fail_at(reading, token->begin, error, "COPY from or to the client");
        hvi_error_hint(error, "Use INSERT, or COPY with a file on the server.");
        return HV_INVALID;
    }
    follow_blocks(reading, token);
    if (hvi_token_is_sign(token, '('))
        reading->depth++;
    else if (hvi_token_is_sign(token, ')') && reading->depth > 0)
        reading->depth--;
    if (reading->tokens < 2)
        reading->first[reading->tokens] = *token;
    if (reading->tokens == 0)
        reading->first[1] = (hvi_token){.kind = HVI_TOKEN_END};
    reading->last = *token;
    reading->tokens++;
    return HV_OK;
}

/* ---- what comments say ---- */

/* A line "-- hv: …". */
static hv_status take_order(hvi_reading *reading, const char *line, const char *end,
                            hv_error **error) {
    hvi_sql *sql = reading->sql;
    const char *order = line + 2;
    while (order < end && *order == ' ')
        order++;
    if (end - order < 3 || memcmp(order, "hv:", 3) != 0)
        return HV_OK;
    for (order += 3; order < end && (*order == ' ' || *order == '\t');)
        order++;
    while (end > order && is_space(end[-1]))
        end--;
    if (sql->count > 0 || reading->tokens > 0) {
        fail_at(reading, line, error, "a line \"-- hv:\" after the first statement");
        hvi_error_hint(error, "Move it to the beginning of the file.");
        return HV_INVALID;
    }
    if (end - order == 14 && memcmp(order, "no-transaction", 14) == 0) {
        sql->no_transaction = true;
        return HV_OK;
    }
    hvi_fail(error, HV_INVALID, "unknown \"-- hv: %s\"",
             hvi_utf8_excerpt(order, (size_t) (end - order)).text);
    hvi_error_hint(error, "There is \"-- hv: no-transaction\".");
    hvi_sql_locate(sql, line_of(reading, line), error);
    return HV_INVALID;
}

/* The orders in the comments from `at` on to the next token. */
static hv_status take_orders(hvi_reading *reading, const char *at, hv_error **error) {
    const char *end = reading->end;
    hv_status status = HV_OK;
    while (status == HV_OK && at < end && reading->sql->name != NULL) {
        if (starts(at, end, "--")) {
            const char *line = at;
            at = skip_line(at, end);
            status = take_order(reading, line, at, error);
        } else if (starts(at, end, "/*")) {
            at = skip_comment(at + 2, end);
            if (at == NULL) /* it is refused as a token */
                break;
        } else if (is_space(*at)) {
            at++;
        } else {
            break;
        }
    }
    return status;
}

/* ---- all of it ---- */

static hv_status check_text(hvi_reading *reading, hv_error **error) {
    hvi_sql *sql = reading->sql;
    size_t valid = hvi_utf8_prefix(sql->text, sql->len);
    if (valid == sql->len)
        return HV_OK;
    bool is_nul = sql->text[valid] == '\0';
    return fail_at(reading, sql->text + valid, error,
                   is_nul ? "a NUL byte in the text" : "the text is not valid UTF-8");
}

static hv_status read_all(hvi_reading *reading, hv_error **error) {
    hvi_sql *sql = reading->sql;
    const char *at = sql->text;
    hv_status status = check_text(reading, error);
    while (status == HV_OK) {
        status = take_orders(reading, at, error);
        if (status != HV_OK)
            break;
        hvi_token token = hvi_token_next(&at, reading->end);
        if (token.kind != HVI_TOKEN_END)
            status = take_token(reading, &token, error);
        else if (at < reading->end)
            status = fail_unended(reading, at, error);
        else
            break;
    }
    return status == HV_OK ? end_statement(reading, error) : status;
}

hv_status hvi_sql_read(hvi_sql *sql, const char *name, const char *text, size_t len,
                       hv_error **error) {
    static const char mark[] = "\xef\xbb\xbf"; /* that some editors begin a file with */
    *sql = (hvi_sql){0};
    if (name != NULL && len >= 3 && memcmp(text, mark, 3) == 0) {
        text += 3;
        len -= 3;
    }
    sql->name = name != NULL ? strdup(name) : NULL;
    sql->text = malloc(len + 1);
    if (sql->text == NULL || (name != NULL && sql->name == NULL))
        return hvi_no_memory(error);
    if (len > 0)
        memcpy(sql->text, text, len);
    sql->text[len] = '\0';
    sql->len = len;
    hvi_reading reading = {.sql = sql, .end = sql->text + len, .line = 1, .counted = sql->text};
    return read_all(&reading, error);
}

void hvi_sql_fini(hvi_sql *sql) {
    free(sql->name);
    free(sql->text);
    free(sql->statements);
    *sql = (hvi_sql){0};
}

/* ---- the schema's name ---- */

/* Is @shard at this offset? */
static bool is_mark(const hvi_sql *sql, size_t at) {
    if (sql->text[at] != '@' || sql->len - at < MARK_LEN ||
        memcmp(sql->text + at, MARK, MARK_LEN) != 0)
        return false;
    char after = sql->text[at + MARK_LEN], before = at > 0 ? sql->text[at - 1] : ' ';
    /* "$" is that of a dollar quote */
    return (after == '$' || !is_of_name(after)) && (before == '$' || !is_of_name(before)) &&
           strchr("+-*/<>=~!@#%^&|`?", before) == NULL;
}

void hvi_sql_append(const hvi_sql *sql, size_t begin, size_t end, const char *schema,
                    hvi_buffer *to) {
    size_t plain = begin; /* not yet appended */
    for (size_t at = begin; at < end; at++) {
        if (!is_mark(sql, at))
            continue;
        hvi_buffer_append(to, sql->text + plain, at - plain);
        hvi_buffer_append_text(to, schema);
        plain = at + MARK_LEN;
        at = plain - 1;
    }
    hvi_buffer_append(to, sql->text + plain, end - plain);
}

size_t hvi_sql_offset(const hvi_sql *sql, size_t begin, size_t end, const char *schema,
                      int position) {
    int left = position - 1, len = (int) strlen(schema);
    size_t at = begin;
    while (at < end && left > 0) {
        if (is_mark(sql, at)) {
            if (left < len)
                break;
            left -= len;
            at += MARK_LEN;
            continue;
        }
        for (at++; at < end && (sql->text[at] & 0xc0) == 0x80;)
            at++;
        left--;
    }
    return at;
}

int hvi_sql_line(const hvi_sql *sql, size_t offset) {
    hvi_reading reading = {.end = sql->text + sql->len, .line = 1, .counted = sql->text};
    return line_of(&reading, sql->text + offset);
}

void hvi_sql_locate(const hvi_sql *sql, int line, hv_error **error) {
    if (sql->name != NULL)
        hvi_error_prefix(error, "%s:%d: ", sql->name, line);
    else
        hvi_error_prefix(error, "line %d: ", line);
}

/* ---- looking at a statement ---- */

bool hvi_sql_begins(const hvi_sql *sql, size_t statement, const char *words) {
    const char *at = sql->text + sql->statements[statement].begin;
    const char *end = sql->text + sql->statements[statement].end;
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        hvi_token token = hvi_token_next(&at, end);
        if (token.kind != HVI_TOKEN_WORD || (size_t) (token.end - token.begin) != len ||
            strncasecmp(token.begin, words, len) != 0)
            return false;
        words += len;
        words += *words == ' ';
    }
    return true;
}

void hvi_sql_excerpt(const hvi_sql *sql, size_t statement, size_t max, hvi_buffer *to) {
    const char *at = sql->text + sql->statements[statement].begin, *last = at;
    const char *end = sql->text + sql->statements[statement].end;
    hvi_buffer words = HVI_BUFFER_EMPTY;
    while (words.len <= max && hvi_buffer_ok(&words)) {
        hvi_token token = hvi_token_next(&at, end);
        if (token.kind == HVI_TOKEN_END)
            break;
        if (token.begin > last)
            hvi_buffer_append_byte(&words, ' ');
        for (const char *byte = token.begin; byte < token.end; byte++) {
            bool again = is_space(*byte) && byte > token.begin && is_space(byte[-1]);
            if (!again)
                hvi_buffer_append_byte(&words, is_space(*byte) ? ' ' : *byte);
        }
        last = token.end;
    }
    char *shown = malloc(max + 1);
    if (shown == NULL || !hvi_buffer_ok(&words))
        hvi_buffer_break(to);
    else
        hvi_buffer_append_text(
            to, hvi_utf8_show(shown, max + 1, words.len > 0 ? words.data : "", words.len));
    free(shown);
    hvi_buffer_fini(&words);
}

size_t hvi_sql_characters(const hvi_buffer *text) {
    size_t count = 0;
    for (size_t i = 0; i < text->len; i++)
        count += ((unsigned char) text->data[i] & 0xc0) != 0x80;
    return count;
}

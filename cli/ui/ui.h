/*
 * ui: what people see: colours, errors, tables, numbers and progress bars.
 *
 * Results go to stdout; errors, progress and remarks to stderr. Colours and bars appear only on a
 * terminal (and colours not with NO_COLOR, TERM=dumb or --no-color), so what a pipe gets is plain.
 * Text that comes from a database or a user goes through ui_text() or a table, which make control
 * characters visible, so that no stored text can take over a terminal.
 */
#ifndef UI_H
#define UI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "hypervault.h"

#define UI_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Look at the terminal; called once by hv.c before anything else here. */
void ui_init(void);

/* No colours from now on, whatever the terminal (--no-color). */
void ui_no_color(void);

/* From now on results and errors are JSON, one value a line, and remarks and progress are left out
 * (--json). */
void ui_json(void);
bool ui_is_json(void);

/* Is stderr a terminal whose cursor can be moved, and the output not JSON? */
bool ui_can_draw(void);

bool ui_is_terminal(FILE *stream);

/* True if the locale's encoding is UTF-8: then "█" and "≈" can be shown. */
bool ui_unicode(void);

/* The terminal's width in columns; 80 if there is none. */
int ui_width(FILE *stream);

typedef enum ui_style {
    UI_PLAIN,
    UI_BOLD,
    UI_DIM,
    UI_GOOD, /* green */
    UI_WARN, /* yellow */
    UI_BAD,  /* red */
    UI_NAME, /* cyan: names of servers, commands, keys */
} ui_style;

/* The bytes that turn a style on, and all styles off; "" where there are no colours. `stream` is
 * stdout or stderr. */
const char *ui_on(FILE *stream, ui_style style);
const char *ui_off(FILE *stream);

/*
 * Print text of any origin: what acts on a terminal (base/utf8.h) becomes \n, \t, \x1b, \u202e,
 * and bytes that are not UTF-8 \xff. Returns the number of columns it takes.
 */
int ui_text(FILE *stream, const char *text, size_t len);

/* The same with text of several lines, whose line ends stay as they are. */
void ui_lines(FILE *stream, const char *text, size_t len);

/* Print a bar of up to `width` columns, as long as this share of it, 0 to 1. Returns the number of
 * columns it takes. */
int ui_bar(FILE *stream, double share, int width);

/* Between these two, output to stderr does not mix with progress bars or with other threads'
 * output. */
void ui_stderr_lock(void);
void ui_stderr_unlock(void);

/* From now on, words of the command line that may hold a password do not appear in errors and
 * remarks: "password=…", "postgres://user:…@…". They must outlive everything. */
void ui_hide_words(int count, char *const *words);

/* ---- Errors ---------------------------------------------------------------------------------- */

/*
 * Report an error on stderr. Progress bars make room. With --json it is one line: {"error":
 * {"status": …, "message": …, "detail": …, "hint": …, "server": …, "shard": …, "sqlstate": …,
 * "retriable": …, "outcome_unknown": …}}, without the members that are not known.
 */
void ui_error(const hv_error *error);

/* The same where it is alike on several shards, "1-9,12": these are named in place of one server
 * and one shard; in JSON they are "shards". */
void ui_shards_error(const hv_error *error, const char *shards);

/* The same for one of the keys that a command works on, with its key; in JSON it is "id". */
void ui_key_error(const hv_error *error, int64_t key);

/* Report that no entity has this key. */
void ui_no_entity(int64_t key);

/* The object in {"error": …}: a new reference. */
struct json_t *ui_error_json(const hv_error *error);

/* Message and detail in one line, "message: detail": free() it. */
char *ui_error_line(const hv_error *error);

/* Report an error without an hv_error; `detail` and `hint` may be NULL. Style as in the library:
 * short, lower case, no full stop; the others are sentences. */
void ui_fail(const char *detail, const char *hint, const char *format, ...) UI_PRINTF(3, 4);

/* The same with a status (its name goes into the JSON form): a key that is not there is
 * HV_NOT_FOUND. */
void ui_fail_status(hv_status status, const char *detail, const char *hint, const char *format, ...)
    UI_PRINTF(4, 5);

/* A JSON string of text of any origin: bytes that are not UTF-8 are shown as \xff. */
struct json_t *ui_json_text(const char *text);

/* The value as JSON text, in which characters that act on a terminal are escaped: free() it. Takes
 * no reference. */
char *ui_json_dump(const struct json_t *value);

/* Print a line for people on stderr; with --json it is left out. Progress bars make room. */
void ui_note(const char *format, ...) UI_PRINTF(1, 2);

/* Ask a question on the terminal, "… [y/N] ": true for y. */
bool ui_confirm(const char *format, ...) UI_PRINTF(1, 2);

/* ---- Numbers --------------------------------------------------------------------------------- */

/* Each writes into `text` and returns it. */
#define UI_NUMBER_SIZE 32
const char *ui_number(char text[UI_NUMBER_SIZE], int64_t value); /* "1,234,567" */
const char *ui_bytes(char text[UI_NUMBER_SIZE], int64_t bytes);  /* "12 MB" */
const char *ui_duration(char text[UI_NUMBER_SIZE], int64_t us);  /* "850 ms", "2 min 05 s" */
const char *ui_time(char text[UI_NUMBER_SIZE], int64_t unix_ms); /* "2014-11-15T14:11:06.450Z" */

/* ---- Tables ---------------------------------------------------------------------------------- */

/* Columns separated by two spaces, as wide as their widest cell; on a terminal that is too narrow,
 * a line for each cell. */
typedef struct ui_column {
    const char *title;
    bool right; /* aligned to the right, for numbers */
} ui_column;

typedef struct ui_table ui_table;

/* `columns` must outlive the table. Ends the process if memory is short, as all functions here
 * do. */
ui_table *ui_table_new(const ui_column *columns, int count);
/* The next cell, row by row. */
void ui_cell(ui_table *table, ui_style style, const char *format, ...) UI_PRINTF(3, 4);
/* On a terminal that is too narrow, the ends of cells in this and later columns are left out first.
 */
void ui_table_cut(ui_table *table, int first);
/* Print to stdout. A row that is not full is filled with empty cells. */
void ui_table_print(ui_table *table);
/* The same for the rows so far of a table that goes on: they are removed, and later rows stand
 * below them, without titles. Does nothing while there are no rows. */
void ui_table_flush(ui_table *table);
void ui_table_free(ui_table *table);

/* ---- Progress -------------------------------------------------------------------------------- */

/*
 * Bars on stderr, one line each, redrawn by a thread of their own ten times a second. Nothing is
 * shown unless stderr is a terminal, nor with --json or with `lines` 0. Setting a value is an
 * atomic store: cheap, and allowed from any thread.
 *
 *     one  ████████████████▌             5,120/8,192 shards   1,204/s   2 s left
 */
typedef struct ui_progress ui_progress;

/* `unit` in the plural, "shards". Line i is labelled labels[i]; `total` of every line is unknown
 * (-1) until it is set. Strings are copied. NULL is never returned. */
ui_progress *ui_progress_new(int lines, const char *const *labels, const char *unit);
/* Another label, no wider than the first one. */
void ui_progress_label(ui_progress *progress, int line, const char *label);
/* The line is for something else now, which begins: nothing of it is done, and the total is
 * unknown.
 */
void ui_progress_again(ui_progress *progress, int line);
void ui_progress_total(ui_progress *progress, int line, int64_t total);
/* The total is an estimate: three digits of it are shown, "~1,240,000". */
void ui_progress_estimate(ui_progress *progress, int line, int64_t total);
/* The line shows time, not a count: `left_us` from now on. */
void ui_progress_time(ui_progress *progress, int line, int64_t left_us);
void ui_progress_set(ui_progress *progress, int line, int64_t done);
void ui_progress_add(ui_progress *progress, int line, int64_t more);

/* How much of further units is done already: part of a line's bar, and of its time. */
void ui_progress_part(ui_progress *progress, int line, double part);

/* Lines below the bars, for what bars do not show; NULL: none. The text is cut to fit. */
#define UI_REMARKS 4
void ui_progress_remark(ui_progress *progress, int index, ui_style style, const char *text);

/* Is it shown? */
bool ui_progress_is_shown(const ui_progress *progress);

typedef enum ui_outcome {
    UI_RUNNING,
    UI_DONE,
    UI_FAILED,
} ui_outcome;
/* The line has ended: its time stops and its bar turns green or red. */
void ui_progress_end(ui_progress *progress, int line, ui_outcome outcome);

/* Draw the last state, leave it standing (`keep`) or wipe it, and end the thread. */
void ui_progress_free(ui_progress *progress, bool keep);

#endif

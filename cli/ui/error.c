/*
 * ui_error: how errors and remarks look, as text and as JSON.
 *
 * As text:
 *
 *     hv: could not connect to server "one"
 *         connection to server on socket "…" failed: No such file or directory
 *         hint: start it with "hv dev up"
 */
#include "ui/ui.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "ui/memory.h"

/* A failure. All texts but the message may be NULL. */
typedef struct failure {
    hv_status status; /* HV_OK: it did not come from the library */
    const char *message;
    const char *detail;
    const char *hint;
    const hv_error *error; /* the rest, or NULL */
    int64_t key;           /* the key concerned; 0: none */
    const char *shards;    /* all those where it is alike, or NULL */
} failure;

/* ---- What was typed, and may hold a password ------------------------------------------------- */

static struct {
    char *const *words;
    int count;
} typed;

void ui_hide_words(int count, char *const *words) {
    typed.count = count;
    typed.words = words;
}

/* Does it contain connection settings, and so perhaps a password? */
static bool holds_settings(const char *word) {
    const char *at = strcasestr(word, "pass");
    if (at == NULL)
        at = strcasestr(word, "pwd");
    return (at != NULL && strpbrk(at, "=:") != NULL) || strcasestr(word, "postgres://") != NULL ||
           strcasestr(word, "postgresql://") != NULL;
}

/* The text without such words: free() it. */
static char *without_secrets(const char *text) {
    char *shown = copy_text(text);
    for (int i = 0; i < typed.count; i++) {
        const char *word = typed.words[i];
        char *at = holds_settings(word) ? strstr(shown, word) : NULL;
        while (at != NULL) {
            char *next =
                format_text("%.*s(not shown)%s", (int) (at - shown), shown, at + strlen(word));
            free(shown);
            shown = next;
            at = strstr(shown, word);
        }
    }
    return shown;
}

/* Print a text, its lines after the first indented. */
static void print_lines(const char *given) {
    char *text = without_secrets(given);
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n') /* libpq's messages end with one */
        len--;
    const char *end = text + len;
    for (const char *line = text; line <= end;) {
        const char *newline = memchr(line, '\n', (size_t) (end - line));
        const char *line_end = newline != NULL ? newline : end;
        if (line != text)
            fputs("    ", stderr);
        ui_text(stderr, line, (size_t) (line_end - line));
        fputc('\n', stderr);
        line = line_end + 1;
    }
    free(text);
}

/* The server and shard concerned, unless the message names the server. */
static void print_place(const char *message, const hv_error *error) {
    const char *server = hv_error_server(error);
    int shard = hv_error_shard(error);
    if (server == NULL)
        return;
    char *quoted = format_text("\"%s\"", server);
    if (strstr(message, quoted) == NULL) {
        char *place = shard < 0 ? format_text("on server %s", quoted)
                                : format_text("on server %s, shard %d", quoted, shard);
        fputs("    ", stderr);
        print_lines(place);
        free(place);
    }
    free(quoted);
}

/* The key concerned, unless the message names it. */
static void print_key(const char *message, int64_t key) {
    char *digits = format_text("%" PRId64, key);
    if (strstr(message, digits) == NULL)
        fprintf(stderr, "    for the key %s\n", digits);
    free(digits);
}

static void print_text(const failure *what) {
    fprintf(stderr, "%shv:%s ", ui_on(stderr, UI_BAD), ui_off(stderr));
    print_lines(what->message);
    if (what->shards != NULL) {
        fputs("    on shards ", stderr);
        print_lines(what->shards);
    } else if (what->error != NULL) {
        print_place(what->message, what->error);
    }
    if (what->key != 0)
        print_key(what->message, what->key);
    if (what->detail != NULL) {
        fputs("    ", stderr);
        print_lines(what->detail);
    }
    if (what->hint != NULL) {
        fprintf(stderr, "    %shint:%s ", ui_on(stderr, UI_NAME), ui_off(stderr));
        print_lines(what->hint);
    }
}

/* Text for JSON: bytes that are not UTF-8 are escaped. */
json_t *ui_json_text(const char *text) {
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    char *clean = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&clean, &size);
    if (stream == NULL)
        out_of_memory();
    ui_text(stream, text, strlen(text));
    fclose(stream);
    value = json_string(clean);
    free(clean);
    return value;
}

char *ui_json_dump(const json_t *value) {
    char *plain = json_dumps(value, JSON_ENCODE_ANY);
    if (plain == NULL)
        out_of_memory();
    size_t len = strlen(plain);
    char *text = new_memory(6 * len + 1); /* each byte may become an escape of six */
    char *to = text;
    for (size_t at = 0, size; at < len; at += size) {
        uint32_t code = 0;
        size = hvi_utf8_decode(plain + at, len - at, &code);
        if (size > 0 && hvi_acts_on_terminal(code)) {
            to += sprintf(to, "\\u%04x", (unsigned) code);
        } else {
            size = size > 0 ? size : 1;
            memcpy(to, plain + at, size);
            to += size;
        }
    }
    free(plain);
    return text;
}

/* A JSON string of a text for people. */
static json_t *shown_json(const char *text) {
    char *shown = without_secrets(text);
    json_t *value = ui_json_text(shown);
    free(shown);
    return value;
}

static json_t *as_object(const failure *what) {
    const hv_error *error = what->error;
    json_t *object = json_object();
    if (what->status != HV_OK)
        json_object_set_new(object, "status", ui_json_text(hv_status_name(what->status)));
    if (what->key != 0) {
        char *digits = format_text("%" PRId64, what->key);
        json_object_set_new(object, "id", ui_json_text(digits));
        free(digits);
    }
    json_object_set_new(object, "message", shown_json(what->message));
    if (what->detail != NULL)
        json_object_set_new(object, "detail", shown_json(what->detail));
    if (what->hint != NULL)
        json_object_set_new(object, "hint", shown_json(what->hint));
    if (error == NULL)
        return object;
    if (what->shards != NULL)
        json_object_set_new(object, "shards", ui_json_text(what->shards));
    if (what->shards == NULL && hv_error_server(error) != NULL)
        json_object_set_new(object, "server", ui_json_text(hv_error_server(error)));
    if (what->shards == NULL && hv_error_shard(error) >= 0)
        json_object_set_new(object, "shard", json_integer(hv_error_shard(error)));
    if (hv_error_sqlstate(error) != NULL)
        json_object_set_new(object, "sqlstate", ui_json_text(hv_error_sqlstate(error)));
    json_object_set_new(object, "retriable", json_boolean(hv_error_retriable(error)));
    json_object_set_new(object, "outcome_unknown", json_boolean(hv_error_outcome_unknown(error)));
    return object;
}

static void print_object(const failure *what) {
    json_t *whole = json_pack("{s:o}", "error", as_object(what));
    if (whole == NULL)
        out_of_memory();
    char *text = ui_json_dump(whole);
    fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(whole);
}

static void say(const failure *what) {
    ui_stderr_lock();
    if (ui_is_json())
        print_object(what);
    else
        print_text(what);
    ui_stderr_unlock();
}

static failure of_error(const hv_error *error) {
    return (failure){
        .status = hv_error_status(error),
        .message = hv_error_message(error),
        .detail = hv_error_detail(error),
        .hint = hv_error_hint(error),
        .error = error,
    };
}

void ui_error(const hv_error *error) {
    failure what = of_error(error);
    say(&what);
}

void ui_shards_error(const hv_error *error, const char *shards) {
    failure what = of_error(error);
    what.shards = shards;
    say(&what);
}

void ui_key_error(const hv_error *error, int64_t key) {
    failure what = of_error(error);
    what.key = key;
    say(&what);
}

void ui_no_entity(int64_t key) {
    char *message = format_text("no entity has the key %" PRId64, key);
    say(&(failure){.status = HV_NOT_FOUND, .message = message, .key = key});
    free(message);
}

char *ui_error_line(const hv_error *error) {
    const char *detail = hv_error_detail(error);
    return format_text("%s%s%s", hv_error_message(error), detail != NULL ? ": " : "",
                       detail != NULL ? detail : "");
}

json_t *ui_error_json(const hv_error *error) {
    failure what = of_error(error);
    return as_object(&what);
}

static void say_formatted(hv_status status, const char *detail, const char *hint,
                          const char *format, va_list values) {
    char *message = NULL;
    if (vasprintf(&message, format, values) < 0)
        out_of_memory();
    say(&(failure){.status = status, .message = message, .detail = detail, .hint = hint});
    free(message);
}

void ui_fail(const char *detail, const char *hint, const char *format, ...) {
    va_list values;
    va_start(values, format);
    say_formatted(HV_OK, detail, hint, format, values);
    va_end(values);
}

void ui_fail_status(hv_status status, const char *detail, const char *hint, const char *format,
                    ...) {
    va_list values;
    va_start(values, format);
    say_formatted(status, detail, hint, format, values);
    va_end(values);
}

void ui_note(const char *format, ...) {
    if (ui_is_json())
        return;
    char *text = NULL;
    va_list values;
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0)
        out_of_memory();
    va_end(values);
    ui_stderr_lock();
    print_lines(text);
    ui_stderr_unlock();
    free(text);
}

bool ui_confirm(const char *format, ...) {
    char answer[16] = "";
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputs(" [y/N] ", stderr);
    fflush(stderr);
    return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

/*
 * key_source: the keys that a command works on.
 */
#include "key_source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "rows/key_json.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

#define LINES_HINT \
    "Standard input has a key on each line, or an object with the member \"" KEY_LINE_NAME "\"."

static bool is_input(const char *word) {
    return strcmp(word, "-") == 0;
}

void key_source_init(key_source *keys, const arguments *args, char *const *words, int count) {
    *keys = (key_source){.words = words, .count = count};
    int inputs = 0;
    for (int i = 0; i < count; i++) {
        if (is_input(words[i]))
            inputs++;
        else
            argument_key(args, words[i]);
    }
    if (inputs > 1)
        usage_error(args, NULL, "standard input can be read only once");
    keys->reads_input = inputs > 0;
    keys->is_many = count > 1 || inputs > 0;
}

void key_source_fini(key_source *keys) {
    row_reader_free(keys->reader);
    keys->reader = NULL;
}

/* ---- Standard input -------------------------------------------------------------------------- */

static ssize_t read_some(void *context, char *data, size_t size) {
    (void) context;
    for (;;) {
        ssize_t got = interrupted() ? -1 : read(STDIN_FILENO, data, size);
        if (interrupted()) {
            errno = ECANCELED;
            return -1;
        }
        if (got >= 0 || errno != EINTR)
            return got;
    }
}

static void report(const row_fault *fault) {
    char place[ROW_FAULT_SIZE];
    ui_fail_status(HV_INVALID, NULL, LINES_HINT, "standard input%s%s",
                   fault->line > 0 ? ", " : ": ",
                   fault->line > 0 ? row_fault_text(place, fault) : fault->message);
}

/* The next key of standard input; false at its end. */
static bool next_line(key_source *keys, int64_t *key, int *code) {
    for (;;) {
        row *line = NULL;
        row_fault fault;
        row_result result = row_reader_next(keys->reader, &line, &fault);
        if (result == ROW_FAILED) {
            report(&fault);
            *code = EXIT_FAILED;
        }
        if (result != ROW_READ)
            return false;
        const char *text = NULL;
        bool found = line->fault == NULL &&
                     hv_dict_get(line->dict, KEY_LINE_NAME, HV_STRLEN, &text, NULL) &&
                     key_json_read(text, key);
        if (!found) {
            report(line->fault);
            *code = EXIT_FAILED;
        }
        row_free(line);
        if (found)
            return true;
    }
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static bool next_key(key_source *keys, int64_t *key, int *code) {
    for (;;) {
        if (keys->reader != NULL && next_line(keys, key, code))
            return true;
        row_reader_free(keys->reader);
        keys->reader = NULL;
        if (keys->next == keys->count || interrupted())
            return false;
        const char *word = keys->words[keys->next++];
        if (!is_input(word))
            return key_json_read(word, key);
        keys->reader = row_reader_new(&row_key_lines, ROW_MAX_BYTES, read_some, NULL);
        if (keys->reader == NULL)
            out_of_memory();
    }
}

size_t key_source_take(key_source *keys, int64_t list[KEYS_AT_ONCE], int *code) {
    size_t count = 0;
    while (count < KEYS_AT_ONCE && next_key(keys, &list[count], code))
        count++;
    return count;
}

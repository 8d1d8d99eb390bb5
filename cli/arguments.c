/*
 * arguments: read what was typed after a command's name.
 *
 * Not getopt_long(): options may stand anywhere, negative numbers are numbers, a mistyped option
 * gets a hint, and the same table makes help and completion. Words that are no options are moved
 * to the front of argv as they are met; `count` of them stand there.
 */
#include "arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "commands.h"
#include "help.h"
#include "moment.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

void arguments_init(arguments *args, const command *of, int argc, char **argv) {
    *args = (arguments){.command = of, .argc = argc, .argv = argv, .items = argv};
}

/* ---- Errors ---------------------------------------------------------------------------------- */

void usage_error(const arguments *args, const char *hint, const char *format, ...) {
    char *message = NULL;
    va_list values;
    va_start(values, format);
    if (vasprintf(&message, format, values) < 0)
        out_of_memory();
    va_end(values);
    const command *of = args->command;
    char *usage = NULL;
    if (hint == NULL && of != NULL)
        usage = format_text("Usage is `hv %s%s%.*s`; see `hv help %s`.", of->name,
                            of->synopsis[0] != '\0' ? " " : "", (int) strcspn(of->synopsis, "\n"),
                            of->synopsis, of->name);
    else if (hint == NULL)
        usage = copy_text("See `hv help`.");
    ui_fail_status(HV_INVALID, NULL, hint != NULL ? hint : usage, "%s", message);
    free(usage);
    free(message);
    exit(EXIT_USAGE);
}

static void offer_options(hvi_suggestion *search, const command_option *options) {
    for (; options != NULL && options->name != NULL; options++)
        hvi_suggestion_offer(search, options->name);
}

_Noreturn static void unknown_option(const arguments *args, const char *name, size_t len) {
    char *typed = format_text("%.*s", (int) len, name);
    hvi_suggestion search = {.word = typed};
    offer_options(&search, args->command != NULL ? args->command->options : NULL);
    offer_options(&search, global_options);
    char *hint = search.best != NULL ? format_text("Did you mean --%s?", search.best) : NULL;
    usage_error(args, hint, "unknown option --%s", typed);
}

/* ---- Options --------------------------------------------------------------------------------- */

static const command_option *find_long(const command_option *options, const char *name,
                                       size_t len) {
    for (; options != NULL && options->name != NULL; options++)
        if (strlen(options->name) == len && strncmp(options->name, name, len) == 0)
            return options;
    return NULL;
}

static const command_option *find_letter(const command_option *options, char letter) {
    for (; options != NULL && options->name != NULL; options++)
        if (options->letter == letter)
            return options;
    return NULL;
}

/* These end the process at once, whatever else is wrong, so --json may follow them. */
static void look_for_json(const arguments *args) {
    for (int i = args->next; i < args->argc && strcmp(args->argv[i], "--") != 0; i++)
        if (strcmp(args->argv[i], "--json") == 0)
            ui_json();
}

static void apply_global(const arguments *args, const command_option *option) {
    if (option->id == GLOBAL_HELP || option->id == GLOBAL_VERSION)
        look_for_json(args);
    switch (option->id) {
    case GLOBAL_CONFIG:
        use_config(args->value);
        break;
    case GLOBAL_JSON:
        ui_json();
        break;
    case GLOBAL_NO_COLOR:
        ui_no_color();
        break;
    case GLOBAL_HELP:
        exit(output_end(args->command != NULL ? help_command(args->command) : help_overview()));
    case GLOBAL_VERSION:
        exit(output_end(help_version()));
    }
}

/* An option's argument: what follows in the same word, or else the next word. */
static void take_value(arguments *args, const command_option *option, const char *rest) {
    args->value = NULL;
    if (option->argument == NULL) {
        if (rest != NULL)
            usage_error(args, NULL, "option --%s takes no argument", option->name);
    } else if (rest != NULL) {
        args->value = rest;
    } else if (args->next < args->argc) {
        args->value = args->argv[args->next++];
    } else {
        usage_error(args, NULL, "option --%s needs an argument: %s", option->name,
                    option->argument);
    }
}

static const command_option *read_long(arguments *args, const char *word, bool *is_global) {
    const command_option *own = args->command != NULL ? args->command->options : NULL;
    size_t len = strcspn(word, "=");
    const command_option *option = find_long(own, word, len);
    *is_global = option == NULL;
    if (option == NULL)
        option = find_long(global_options, word, len);
    if (option == NULL)
        unknown_option(args, word, len);
    take_value(args, option, word[len] == '=' ? word + len + 1 : NULL);
    return option;
}

static const command_option *read_letter(arguments *args, bool *is_global) {
    const command_option *own = args->command != NULL ? args->command->options : NULL;
    char letter = *args->cluster++;
    const command_option *option = find_letter(own, letter);
    *is_global = option == NULL;
    if (option == NULL)
        option = find_letter(global_options, letter);
    if (option == NULL)
        usage_error(args, NULL, "unknown option -%c", letter);
    const char *rest = *args->cluster != '\0' ? args->cluster : NULL;
    if (option->argument != NULL) {
        take_value(args, option, rest);
        args->cluster = NULL;
    } else {
        args->value = NULL;
        args->cluster = rest;
    }
    return option;
}

static bool is_option(const char *word) {
    bool number = word[0] == '-' && word[1] >= '0' && word[1] <= '9';
    return word[0] == '-' && word[1] != '\0' && !number;
}

int arguments_next(arguments *args) {
    while (args->cluster != NULL || args->next < args->argc) {
        const command_option *option = NULL;
        bool is_global = false;
        if (args->cluster == NULL) {
            char *word = args->argv[args->next];
            if (args->ended || !is_option(word)) {
                if (args->stop_at_word)
                    break;
                args->next++;
                args->items[args->count++] = word;
                args->before_end += !args->ended;
                continue;
            }
            args->next++;
            if (strcmp(word, "--") == 0) {
                args->ended = true;
                continue;
            }
            if (word[1] == '-')
                option = read_long(args, word + 2, &is_global);
            else
                args->cluster = word + 1;
        }
        if (option == NULL)
            option = read_letter(args, &is_global);
        if (!is_global)
            return option->id;
        apply_global(args, option);
    }
    if (!args->stop_at_word)
        args->items[args->count] = NULL; /* argv[argc] is NULL: there is room */
    return 0;
}

/* ---- Words ----------------------------------------------------------------------------------- */

void arguments_expect(arguments *args, int least, int most) {
    while (arguments_next(args) != 0)
        ; /* there are none left but global ones */
    if (args->count < least)
        usage_error(args, NULL, "%s",
                    args->count == 0 ? "arguments are missing" : "an argument is missing");
    if (most >= 0 && args->count > most)
        usage_error(args, NULL, "unexpected argument \"%s\"", args->items[most]);
}

int64_t argument_integer(const arguments *args, const char *what, const char *text, int64_t least,
                         int64_t most) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    /* strtoll() would take white space and a plus sign before the number */
    bool decimal = text[0] == '-' || (text[0] >= '0' && text[0] <= '9');
    bool is_number = decimal && end != text && *end == '\0';
    if (!is_number || errno == ERANGE || value < least || value > most) {
        char *hint =
            format_text("It is a whole number from %" PRId64 " to %" PRId64 ".", least, most);
        usage_error(args, hint, is_number ? "%s is out of range: %s" : "%s is not a number: \"%s\"",
                    what, text);
    }
    return value;
}

int argument_shard(const arguments *args, const char *text) {
    return (int) argument_integer(args, "SHARD", text, 0, HV_SHARDS - 1);
}

int argument_kind(const arguments *args, const char *text) {
    return (int) argument_integer(args, "KIND", text, INT16_MIN, INT16_MAX);
}

int64_t argument_key(const arguments *args, const char *text) {
    return argument_integer(args, "KEY", text, 1, INT64_MAX);
}

int64_t argument_moment(const arguments *args, const char *what, const char *text) {
    int64_t moment;
    if (!moment_parse(text, &moment))
        usage_error(args, "Write 2026-11-22, 2026-11-22T14:00:00Z, now, or @ and milliseconds.",
                    "%s is no point in time: \"%s\"", what, text);
    return moment;
}

bool argument_key_or_moment(const arguments *args, const char *what, const char *text,
                            int64_t *number) {
    bool is_key = text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
    *number = is_key ? argument_key(args, text) : argument_moment(args, what, text);
    return is_key;
}

#define DAY_MS INT64_C(86400000)

int64_t argument_duration(const arguments *args, const char *what, const char *text) {
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"min", 60000}, {"h", 3600000}, {"d", DAY_MS}};
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    for (size_t i = 0; end != text && errno == 0 && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].name) == 0 && number >= 0 && number <= DAY_MS / units[i].ms)
            return number * units[i].ms;
    }
    usage_error(args, "Write a number with a unit, ms, s, min or h, up to 24h: 30s.",
                "%s is no duration: \"%s\"", what, text);
}

char **argument_list(const char *text, size_t *count) {
    size_t most = 1;
    for (const char *at = text; *at != '\0'; at++)
        most += *at == ',';
    /* the texts stand behind the array, and are never longer than what was typed */
    char **list = new_memory(most * sizeof *list + strlen(text) + 1);
    char *to = (char *) &list[most];
    *count = 0;
    list[(*count)++] = to;
    for (; *text != '\0'; text++) {
        if (*text == ',') {
            *to++ = '\0';
            list[(*count)++] = to;
            continue;
        }
        if (*text == '\\' && (text[1] == ',' || text[1] == '\\'))
            text++;
        *to++ = *text;
    }
    *to = '\0';
    return list;
}

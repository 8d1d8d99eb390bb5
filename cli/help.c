/*
 * help: what `hv help` prints, made from the tables of commands and options.
 */
#include "help.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "hypervault.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

static void print_heading(const char *text) {
    printf("\n%s%s%s\n", ui_on(stdout, UI_BOLD), text, ui_off(stdout));
}

/* No line is longer. */
#define LINE_WIDTH 100

/* "  NAME   what it is": a word of a fixed width, and text, broken into lines between its words. */
static void print_entry(const char *word, int width, const char *text) {
    int room = LINE_WIDTH - width - 4, used = 0;
    printf("  %s%-*s%s  ", ui_on(stdout, UI_NAME), width, word, ui_off(stdout));
    while (*text != '\0') {
        int len = (int) strcspn(text, " ");
        if (used > 0 && used + 1 + len > room) {
            printf("\n%*s", width + 4, "");
            used = 0;
        }
        used += printf("%s%.*s", used > 0 ? " " : "", len, text);
        text += len + (text[len] == ' ');
    }
    putchar('\n');
}

/* ---- Options of commands --------------------------------------------------------------------- */

static char *option_words(const command_option *option) {
    char letter[8] = "    ";
    if (option->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    return format_text("%s--%s%s%s", letter, option->name, option->argument != NULL ? " " : "",
                       option->argument != NULL ? option->argument : "");
}

static void print_options(const char *heading, const command_option *options) {
    int width = 0;
    for (const command_option *option = options; option->name != NULL; option++) {
        char *words = option_words(option);
        int len = (int) strlen(words);
        width = len > width ? len : width;
        free(words);
    }
    print_heading(heading);
    for (const command_option *option = options; option->name != NULL; option++) {
        char *words = option_words(option);
        print_entry(words, width, option->help);
        free(words);
    }
}

/* ---- Everything, for programs ---------------------------------------------------------------- */

static json_t *options_as_json(const command_option *options) {
    json_t *list = json_array();
    for (; options != NULL && options->name != NULL; options++) {
        char letter[2] = {options->letter, '\0'};
        json_array_append_new(list, json_pack("{s:s, s:s*, s:s*, s:s, s:s*}", "name", options->name,
                                              "letter", options->letter != 0 ? letter : NULL,
                                              "argument", options->argument, "help", options->help,
                                              "values", options->values));
    }
    return list;
}

static json_t *command_as_json(const command *of) {
    return json_pack("{s:s, s:s, s:s, s:s*, s:s*, s:o}", "name", of->name, "synopsis", of->synopsis,
                     "summary", of->summary, "help", of->help, "examples", of->examples, "options",
                     options_as_json(of->options));
}

static json_t *configuration_options(void) {
    json_t *list = json_array();
    hv_option_info info;
    for (size_t i = 0; hv_option_at(i, &info); i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", info.name,
                                              "type", info.type, "default", info.default_value,
                                              "range", info.range, "help", info.help));
    return list;
}

static json_t *all_as_json(void) {
    json_t *commands = json_array();
    const command *of;
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++)
        json_array_append_new(commands, command_as_json(of));
    return json_pack("{s:s, s:o, s:o, s:o}", "version", hv_version(), "commands", commands,
                     "global_options", options_as_json(global_options), "configuration_options",
                     configuration_options());
}

/* ---- Pages ----------------------------------------------------------------------------------- */

int help_overview(void) {
    if (ui_is_json()) {
        print_json(all_as_json());
        return EXIT_DONE;
    }
    printf("%shv%s: entities in shards on plain PostgreSQL servers\n\n"
           "Usage: hv [OPTION]... COMMAND [ARGUMENT]...\n",
           ui_on(stdout, UI_BOLD), ui_off(stdout));
    const char *group = NULL;
    const char *printed = NULL;
    const command *of;
    int width = 0;
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++)
        width = (int) strlen(of->name) > width ? (int) strlen(of->name) : width;
    for (size_t i = 0; (of = command_at(i, &group)) != NULL; i++) {
        if (group != printed)
            print_heading(group);
        printed = group;
        print_entry(of->name, width, of->summary);
    }
    print_options("Options of every command", global_options);
    print_heading("To begin");
    puts("  hv dev up            start private servers, make their shards\n"
         "  hv help COMMAND      explain a command, with examples\n"
         "  hv help options      options of the configuration file");
    return EXIT_DONE;
}

static void print_usage(const command *of) {
    const char *prefix = "Usage:";
    for (const char *form = of->synopsis;;) {
        size_t len = strcspn(form, "\n");
        printf("%-6s hv %s%s%.*s\n", prefix, of->name, len > 0 ? " " : "", (int) len, form);
        if (form[len] == '\0')
            break;
        form += len + 1;
        prefix = "";
    }
}

int help_command(const command *of) {
    if (ui_is_json()) {
        print_json(command_as_json(of));
        return EXIT_DONE;
    }
    printf("%shv %s%s: %s\n\n", ui_on(stdout, UI_BOLD), of->name, ui_off(stdout), of->summary);
    print_usage(of);
    if (of->help != NULL)
        printf("\n%s\n", of->help);
    if (of->options != NULL && of->options->name != NULL)
        print_options("Options", of->options);
    if (of->examples != NULL) {
        print_heading("Examples");
        for (const char *line = of->examples; *line != '\0';) {
            size_t len = strcspn(line, "\n");
            printf("  %.*s\n", (int) len, line);
            line += len + (line[len] == '\n');
        }
    }
    puts("\nEvery command also takes --config, --json, --no-color and --help: see `hv help`.");
    return EXIT_DONE;
}

int help_group(const char *word) {
    size_t len = strlen(word);
    bool any = false;
    const command *of;
    const char *group = NULL;
    json_t *commands = ui_is_json() ? json_array() : NULL;
    for (size_t i = 0; (of = command_at(i, &group)) != NULL; i++) {
        if (strncmp(of->name, word, len) != 0 || of->name[len] != ' ')
            continue;
        if (commands != NULL)
            json_array_append_new(commands, command_as_json(of));
        else if (!any)
            printf("%s%s%s\n\n", ui_on(stdout, UI_BOLD), group, ui_off(stdout));
        any = true;
        char *name = format_text("hv %s", of->name);
        if (commands == NULL)
            print_entry(name, 15, of->summary);
        free(name);
    }
    if (any && commands != NULL)
        print_json(json_pack("{s:O}", "commands", commands));
    else if (any)
        printf("\nSee `hv help %s COMMAND`.\n", word);
    json_decref(commands);
    return any ? EXIT_DONE : EXIT_USAGE;
}

int help_version(void) {
    if (ui_is_json())
        print_json(json_pack("{s:s}", "version", hv_version()));
    else
        printf("hv %s\n", hv_version());
    return EXIT_DONE;
}

/* ---- Options of the configuration ------------------------------------------------------------ */

int help_options(void) {
    if (ui_is_json()) {
        print_json(configuration_options());
        return EXIT_DONE;
    }
    puts("Options of the configuration file, in its section [hypervault]:");
    hv_option_info info;
    for (size_t i = 0; hv_option_at(i, &info); i++)
        printf("\n  %s%s%s =%s%s\n      %s\n      %s: %s\n", ui_on(stdout, UI_NAME), info.name,
               ui_off(stdout), info.default_value[0] != '\0' ? " " : "", info.default_value,
               info.help, info.type, info.range);
    puts(
        "\nEach server has a section [server NAME] with the connection parameters that libpq\n"
        "takes (host, port, dbname, user, password, sslmode, service, ...) and\n"
        "\n"
        "  shards = 0-8,12     the shards it holds: ranges without their end, single shards\n"
        "\n"
        "The file is the first of $HYPERVAULT_CONFIG, ./hypervault.conf,\n"
        "~/.config/hypervault/hypervault.conf, /etc/hypervault/hypervault.conf; or --config FILE.");
    return EXIT_DONE;
}

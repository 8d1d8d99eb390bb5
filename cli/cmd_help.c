/*
 * hv help: choose what is explained.
 */
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "base/suggest.h"
#include "commands.h"
#include "help.h"
#include "ui/exit.h"
#include "ui/memory.h"

static int help_on(const arguments *args, const char *name) {
    const command *of = command_named(name);
    if (strcmp(name, "options") == 0)
        return help_options();
    if (of == NULL && help_group(name) == EXIT_DONE)
        return EXIT_DONE;
    if (of == NULL) {
        hvi_suggestion search = {.word = name};
        for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++)
            hvi_suggestion_offer(&search, of->name);
        hvi_suggestion_offer(&search, "options");
        char *hint = search.best != NULL ? format_text("Did you mean `hv help %s`?", search.best)
                                         : copy_text("See `hv help` for the commands there are.");
        usage_error(args, hint, "there is no command \"%s\"", name);
    }
    return help_command(of);
}

static int run(arguments *args) {
    arguments_expect(args, 0, 2);
    if (args->count == 0)
        return help_overview();
    char *name = args->count == 2 ? format_text("%s %s", args->items[0], args->items[1])
                                  : copy_text(args->items[0]);
    int code = help_on(args, name);
    free(name);
    return code;
}

const command command_help = {
    .name = "help",
    .synopsis = "[COMMAND]\noptions",
    .summary = "explain a command, or the options of the configuration file",
    .help = "With --json everything is printed for programs: commands, their options, and the\n"
            "options of the configuration file.",
    .examples = "hv help dev up\n"
                "hv help options\n"
                "hv help --json",
    .run = run,
};

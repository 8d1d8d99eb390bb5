/*
 * hv: main(): find the command, run it, and make sure that its output is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "base/suggest.h"
#include "commands.h"
#include "help.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

/*
 * Make sure that descriptors 0 to 2 are open: otherwise a connection to a server could become
 * descriptor 1, and results would be sent to it. The substitute is opened for the other direction,
 * so that using it is still an error.
 */
static void ensure_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
            int opened = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
            if (opened != fd)
                _exit(EXIT_FAILED);
        }
    }
}

/* `hv dev`: is this the first word of commands of two words? */
static bool is_group(const char *word) {
    const command *of;
    size_t len = strlen(word);
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++)
        if (strncmp(of->name, word, len) == 0 && of->name[len] == ' ')
            return true;
    return false;
}

/* First words that are no commands by themselves, to suggest. */
static const char *const groups[] = {"dev", "index", "schema"};

_Noreturn static void unknown_command(const arguments *args, const char *name) {
    hvi_suggestion search = {.word = name};
    const command *of;
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++)
        hvi_suggestion_offer(&search, of->name);
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        hvi_suggestion_offer(&search, groups[i]);
    int group_len = strchr(name, ' ') != NULL ? (int) strcspn(name, " ") : 0;
    char *hint = search.best != NULL
                     ? format_text("Did you mean `hv %s`?", search.best)
                     : format_text("See `hv help%s%.*s` for the commands there are.",
                                   group_len > 0 ? " " : "", group_len, name);
    usage_error(args, hint, "unknown command \"%s\"", name);
}

/* The second word of a command like "dev up". Returns an exit code if there is none. */
static int take_second_word(arguments *args, const char *first, char **name) {
    const char *word = args->argv[args->next];
    if (word != NULL && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0))
        return help_group(first);
    arguments_next(args);
    if (args->next == args->argc) {
        help_group(first);
        return EXIT_USAGE;
    }
    *name = format_text("%s %s", first, args->argv[args->next++]);
    return EXIT_DONE;
}

/* Where `hv migrate` is a command and `hv migrate status` another one: does its second word come
 * next? */
static bool is_second_word(const arguments *args, const char *first) {
    if (args->next == args->argc)
        return false;
    char *two_words = format_text("%s %s", first, args->argv[args->next]);
    bool is = command_named(two_words) != NULL;
    free(two_words);
    return is;
}

/* Read the command's name, one word or two, and run it. */
static int dispatch(int argc, char **argv) {
    arguments args;
    arguments_init(&args, NULL, argc - 1, argv + 1);
    args.stop_at_word = true;
    arguments_next(&args);
    if (args.next == args.argc) {
        help_overview();
        return EXIT_USAGE;
    }
    char *name = copy_text(args.argv[args.next++]);
    if (is_group(name) && (command_named(name) == NULL || is_second_word(&args, name))) {
        char *two_words = NULL;
        int code = take_second_word(&args, name, &two_words);
        free(name);
        if (two_words == NULL)
            return code;
        name = two_words;
    }
    const command *of = command_named(name);
    if (of == NULL)
        unknown_command(&args, name);
    free(name);
    arguments own;
    arguments_init(&own, of, args.argc - args.next, args.argv + args.next);
    return of->run(&own);
}

/* A copy of the command line: reading the arguments rearranges them. */
static char *const *typed_words(int argc, char **argv) {
    char **words = new_memory((size_t) argc * sizeof *words);
    memcpy(words, argv + 1, (size_t) (argc - 1) * sizeof *words);
    return words;
}

int main(int argc, char **argv) {
    ensure_standard_streams();
    signal(SIGPIPE, SIG_DFL); /* `hv get … | head -1` ends like any other command would */
    ui_init();
    ui_hide_words(argc - 1, typed_words(argc, argv));
    int code = output_end(dispatch(argc, argv));
    if (interrupted()) {
        signal(interrupt_signal(), SIG_DFL);
        raise(interrupt_signal());
    }
    return code;
}

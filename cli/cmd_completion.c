/*
 * hv completion: a bash completion, made from the table of commands.
 *
 * The script only knows words; what depends on the configuration it asks `hv completion servers`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "commands.h"
#include "memory.h"
#include "ui.h"

static void print_option_words(const command_option *options) {
    for (; options != NULL && options->name != NULL; options++) {
        printf(" --%s", options->name);
        if (options->letter != 0)
            printf(" -%c", options->letter);
    }
}

/* First words, each once: "dev" stands for all of `hv dev …`. */
static void print_first_words(void) {
    const command *of;
    char *last = copy_text("");
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++) {
        char *word = format_text("%.*s", (int) strcspn(of->name, " "), of->name);
        if (strcmp(word, last) != 0)
            printf(" %s", word);
        free(last);
        last = word;
    }
    free(last);
}

static void print_second_words(const char *first) {
    const command *of;
    size_t len = strlen(first);
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++)
        if (strncmp(of->name, first, len) == 0 && of->name[len] == ' ')
            printf(" %s", of->name + len + 1);
}

/* A case of options whose argument is a file, a folder or free text. */
static void print_bash(void) {
    puts("# bash completion for hv; made by `hv completion bash`.\n"
         "_hv() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
         "    local i word command= config=() options= words=\n"
         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "        word=${COMP_WORDS[i]}\n"
         "        case $word in\n"
         "        -c | --config) config=(--config \"${COMP_WORDS[++i]}\") ;;\n"
         "        -*) ;;\n"
         "        *) if [[ -z $command || $command == dev ]]; then command+=${command:+ }$word; fi "
         ";;\n"
         "        esac\n"
         "    done\n"
         "    case $prev in\n"
         "    -c | --config) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")); return "
         ";;\n"
         "    --dir) compopt -o filenames; COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n"
         "    --user) COMPREPLY=($(compgen -u -- \"$cur\")); return ;;\n"
         "    --keys) COMPREPLY=($(compgen -W 'auto strict portable' -- \"$cur\")); return ;;\n"
         "    --via) COMPREPLY=($(compgen -W 'store pool' -- \"$cur\")); return ;;\n"
         "    esac\n"
         "    case $command in");
    fputs("    '') words='", stdout);
    print_first_words();
    fputs("' ;;\n    dev) words='", stdout);
    print_second_words("dev");
    puts("' ;;");
    const command *of;
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++) {
        printf("    '%s') options='", of->name);
        print_option_words(of->options);
        if (of == &command_help) {
            fputs("' words='options ", stdout);
            print_first_words();
        } else if (of == &command_completion) {
            fputs("' words='bash servers", stdout);
        } else if (of == &command_bench) {
            fputs("' words='put get mix", stdout);
        } else if (strcmp(of->name, "dev psql") == 0) {
            puts("'\n        words=$(hv dev status --json 2>/dev/null | "
                 "grep -o '\"name\": \"[a-z]*\"' | cut -d'\"' -f4) ;;");
            continue;
        }
        puts("' ;;");
    }
    fputs("    esac\n"
          "    options+='",
          stdout);
    print_option_words(global_options);
    puts("'\n"
         "    [[ $cur == -* ]] && words=$options\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "}\n"
         "complete -o bashdefault -o default -F _hv hv");
}

static int print_servers(void) {
    hv_store *store = NULL;
    int code = open_store(&store);
    for (int i = 0; code == EXIT_DONE && i < hv_server_count(store); i++) {
        const char *name = hv_server_name(store, i);
        ui_text(stdout, name, strlen(name));
        putchar('\n');
    }
    hv_close(store, 0, NULL);
    return code;
}

static int run(arguments *args) {
    arguments_expect(args, 1, 1);
    if (strcmp(args->items[0], "bash") == 0) {
        print_bash();
        return EXIT_DONE;
    }
    if (strcmp(args->items[0], "servers") == 0)
        return print_servers();
    usage_error(args, "There is a completion for bash.", "unknown shell \"%s\"", args->items[0]);
}

const command command_completion = {
    .name = "completion",
    .synopsis = "bash\nservers",
    .summary = "print the completion script for a shell",
    .help = "`hv completion servers` prints the names of the configuration's servers.",
    .examples = "source <(hv completion bash)",
    .run = run,
};

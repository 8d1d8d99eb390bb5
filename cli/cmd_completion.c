/*
 * hv completion: a bash completion, made from the table of commands and their options alone.
 *
 * The script knows words only; it asks `hv completion servers` for what depends on the
 * configuration.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

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

/* Call it for each group: its word, and its length. */
static void for_each_group(void (*print)(const char *word, int len)) {
    const command *of, *last = NULL;
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++) {
        size_t len = strcspn(of->name, " ");
        bool is_same = last != NULL && strncmp(last->name, of->name, len + 1) == 0;
        if (of->name[len] == ' ' && !is_same)
            print(of->name, (int) len);
        last = of;
    }
}

/* The words that follow a group's, alone and after `hv help`. If the word is a command, too, these
 * are among the command's. */
static void print_group(const char *word, int len) {
    char *group = format_text("%.*s", len, word);
    if (command_named(group) == NULL)
        printf("    %s | 'help %s') words='", group, group);
    else
        printf("    'help %s') words='", group);
    print_second_words(group);
    puts("' ;;");
    free(group);
}

static void print_group_condition(const char *word, int len) {
    char *group = format_text("%.*s", len, word);
    printf(" || $command == 'help %s' || $command == %s", group, group);
    if (command_named(group) != NULL) { /* what follows may be an argument of it */
        fputs(" && '", stdout);
        print_second_words(group);
        fputs(" ' == *\" $word \"*", stdout);
    }
    free(group);
}

/* Arguments that the shell completes by itself, by their names. */
static const char *what_is(const command_option *option) {
    static const char *const known[][2] = {
        {"FILE", "file"}, {"DIR", "folder"}, {"USER", "user"}, {"SERVER", "server"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(option->argument, known[i][0]) == 0)
            return known[i][1];
    return "text";
}

/* By the word before: how the argument of an option is completed. */
static void print_arguments(const command_option *options) {
    for (; options != NULL && options->name != NULL; options++) {
        if (options->argument == NULL)
            continue;
        printf("        --%s", options->name);
        if (options->letter != 0)
            printf(" | -%c", options->letter);
        if (options->values != NULL)
            printf(") what=words words='%s' ;;\n", options->values);
        else
            printf(") what=%s ;;\n", what_is(options));
    }
}

/* Words that a command's synopsis begins with, in any of its forms: "put|get|mix". */
static void print_synopsis_words(const command *of) {
    for (const char *form = of->synopsis; *form != '\0';) {
        size_t len = strspn(form, "abcdefghijklmnopqrstuvwxyz|");
        if (len > 0 && strchr(" \n", form[len]) != NULL)
            for (size_t i = 0; i < len; i++)
                putchar(form[i] == '|' ? ' ' : form[i]);
        putchar(' ');
        form += strcspn(form, "\n");
        form += *form == '\n';
    }
    if (strncmp(of->synopsis, "[COMMAND]", strlen("[COMMAND]")) == 0)
        print_first_words();
}

static void print_command(const command *of) {
    printf("    '%s')\n        options='", of->name);
    print_option_words(of->options);
    fputs("'\n        words='", stdout);
    print_synopsis_words(of);
    print_second_words(of->name);
    puts("'");
    if (strncmp(of->synopsis, "[SERVER]", strlen("[SERVER]")) == 0)
        puts("        words=$(hv dev status --json 2>/dev/null | "
             "grep -o '\"name\": \"[a-z]*\"' | cut -d'\"' -f4)");
    puts("        case $prev in");
    print_arguments(of->options);
    puts("        esac ;;");
}

static void print_bash(void) {
    fputs("# bash completion for hv; made by `hv completion bash`.\n"
          "_hv() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local i word command= config=() options= words= what=\n"
          "    if [[ $cur == = ]]; then cur=; fi\n"
          "    if [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        word=${COMP_WORDS[i]}\n"
          "        case $word in\n"
          "        -c | --config)\n"
          "            if [[ ${COMP_WORDS[i+1]} == = ]]; then ((i++)); fi\n"
          "            config=(--config \"${COMP_WORDS[++i]}\") ;;\n"
          "        -*) ;;\n"
          "        *) if [[ -z $command || $command == help",
          stdout);
    for_each_group(print_group_condition);
    puts(" ]]; then\n"
         "            command+=${command:+ }$word\n"
         "        fi ;;\n"
         "        esac\n"
         "    done\n"
         "    case $command in");
    fputs("    '') words='", stdout);
    print_first_words();
    puts("' ;;");
    for_each_group(print_group);
    const command *of;
    for (size_t i = 0; (of = command_at(i, NULL)) != NULL; i++)
        print_command(of);
    puts("    esac\n"
         "    case $prev in");
    print_arguments(global_options);
    fputs("    esac\n"
          "    options+='",
          stdout);
    print_option_words(global_options);
    puts("'\n"
         "    case $what in\n"
         "    file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return "
         ";;\n"
         "    folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); "
         "return ;;\n"
         "    user) mapfile -t COMPREPLY < <(compgen -u -- \"$cur\"); return ;;\n"
         "    server)\n"
         "        local IFS=$'\\n'\n"
         "        words=$(hv \"${config[@]}\" completion servers 2>/dev/null) ;;\n"
         "    text) compopt +o default +o bashdefault; return ;;\n"
         "    words) ;;\n"
         "    *) if [[ $cur == -* ]]; then words=$options; fi ;;\n"
         "    esac\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
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

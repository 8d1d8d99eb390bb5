/*
 * list_options: print the option table for check_options.py: name, type, default, range and help of
 * an option on each line, with tabs between.
 */
#include <stdio.h>

#include <hypervault.h>

int main(void) {
    hv_option_info option;
    for (size_t i = 0; hv_option_at(i, &option); i++)
        printf("%s\t%s\t%s\t%s\t%s\n", option.name, option.type, option.default_value, option.range,
               option.help);
    return ferror(stdout) || fflush(stdout) != 0;
}

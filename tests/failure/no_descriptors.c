/*
 * no_descriptors: preloaded into a program, lets it open nothing from its main() on.
 */
#include <sys/resource.h>

__attribute__((constructor)) static void open_no_more(void) {
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 3, .rlim_max = 3});
}

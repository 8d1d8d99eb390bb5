/*
 * dev_view: what the `hv dev` commands share in what they take and show.
 */
#ifndef DEV_VIEW_H
#define DEV_VIEW_H

#include "command.h"
#include "dev/dev.h"

/* The folder that was named, or the default one: free() it. */
char *dev_dir_argument(const arguments *args, const char *named);

/* The name of the user that we are now: free() it. */
char *dev_user_name(void);

/* The folder and its servers. */
struct json_t *dev_as_json(const dev_folder *folder);
void dev_print(const dev_folder *folder);

#endif

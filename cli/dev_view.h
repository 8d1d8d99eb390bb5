/*
 * dev_view: the arguments and the output that the `hv dev` commands share.
 */
#ifndef DEV_VIEW_H
#define DEV_VIEW_H

#include "command.h"
#include "dev/dev.h"

/* The folder that was named, or the default one: free() it. */
char *dev_dir_argument(const arguments *args, const char *named);

/* The name of the present user: free() it. */
char *dev_user_name(void);

/* The folder and its servers, as JSON and for people. */
struct json_t *dev_as_json(const dev_folder *folder);
void dev_print(const dev_folder *folder);

#endif

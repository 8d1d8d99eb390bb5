"""Writing the configuration file of a store."""

import os


def store_config(path, servers, **options):
    """Write a configuration file to `path` and return the path as text.

    `servers` maps a server's name to (where, shards), where `where` is a Database, a PostgresServer
    or a dict of libpq's parameters, and shards is text such as "1-9". `options` go into
    [hypervault].

        store_config(tmp_path / "hypervault.conf", {"one": (database, "1-9")}, pool_max=2)
    """
    lines = []
    if options:
        lines.append("[hypervault]")
        lines += [f"{name} = {value}" for name, value in options.items()]
    for name, (where, shards) in servers.items():
        params = where if isinstance(where, dict) else where.params()
        lines += ["", f"[server {name}]", f"shards = {shards}"]
        lines += [f"{parameter} = {value}" for parameter, value in params.items()]
    with open(path, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)  # it may contain a password
        file.write("\n".join(lines) + "\n")
    return str(path)

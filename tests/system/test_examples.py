"""The examples, compiled against the installed library as a user does it, and run."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from harness import build_dir, hv, run, store_config
from harness.moving import (
    assert_nothing_left,
    has_shard,
    moving_servers,
    moving_store,
    reached,
    shared_moving_servers,
)
from harness.server import binaries

FIXTURES = (moving_servers, moving_store, shared_moving_servers)

SOURCE = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = SOURCE / "examples"


def sanitizers():
    """The flags that a program needs to link with a library built with sanitizers."""
    options = (build_dir() / "meson-info" / "intro-buildoptions.json").read_text("utf-8")
    value = re.search(r'"name": "b_sanitize", "value": "([^"]*)"', options).group(1)
    return [] if value == "none" else [f"-fsanitize={value}"]


def compiler():
    """The compiler that the library was built with."""
    commands = (build_dir() / "compile_commands.json").read_text("utf-8")
    return "clang" if re.search(r'"command": "(ccache )?clang', commands) else "cc"


class Installed:
    """The library, installed into a folder of the test's own."""

    def __init__(self, root):
        subprocess.run(
            ["/usr/bin/meson", "install", "--no-rebuild", "--quiet", "-C", build_dir()],
            env={**os.environ, "DESTDIR": str(root)},
            check=True,
        )
        (pkgconfig,) = root.rglob("hypervault.pc")
        text = pkgconfig.read_text("utf-8")
        pkgconfig.write_text(text.replace("prefix=", f"prefix={root}", 1), "utf-8")
        (library,) = root.rglob("libhypervault.so")
        self.compile_env = {"PATH": os.environ["PATH"], "PKG_CONFIG_PATH": str(pkgconfig.parent)}
        self.run_env = {"LD_LIBRARY_PATH": str(library.parent)}

    def compile(self, command, folder):
        """Run a shell command that calls cc, with the compiler that built the library."""
        command = command.replace("cc ", f"{compiler()} -Wall -Wextra -Werror ", 1)
        done = subprocess.run(
            ["sh", "-c", " ".join([command, *sanitizers()])],
            cwd=folder,
            env=self.compile_env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stderr}"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def compiled(installed, tmp_path):
    """A function that compiles an example with the command in its first comment."""

    def compile_example(name):
        source = EXAMPLES / f"{name}.c"
        command = re.search(r"^ \* +(cc .* -o (\w+)) && \./", source.read_text("utf-8"), re.M)
        assert command and command.group(2) == name, f"{source} does not say how to compile it"
        shutil.copy(source, tmp_path)
        installed.compile(command.group(1), tmp_path)
        return lambda *args, **how: run(tmp_path / name, *args, env=installed.run_env, **how)

    return compile_example


def stored_in_all_shards(servers):
    return sum(
        servers[0 if shard < 9 else 1].value(f"SELECT count(*) FROM shard{shard:04}.entities")
        for shard in range(1, 17)
    )


def test_put_get_prints_what_it_stored(compiled, store):
    done = compiled("put_get")(3, config=store).ok()
    key, *rest = done.out.split(" ", 1)
    assert done.out == f"{key} is of kind 1\nbeep = boop\n"
    assert hv("get", key, "--json", config=store).ok().json()["body"] == {"beep": "boop"}


def test_put_get_says_what_to_do_when_the_shards_are_not_made(compiled, config):
    done = compiled("put_get")(3, config=config)
    assert done.code == 1
    assert "shard 3 is not initialised" in done.err
    assert "hint: Run `hv init`" in done.err


def test_lend_uses_a_table_of_its_own_in_the_shard(compiled, store, servers):
    lend = compiled("lend")
    assert lend(5, config=store).ok().out == "lend.c: was here\n"
    assert lend(5, config=store).ok().out == "lend.c: was here again\n"
    assert servers[0].value("SELECT count(*) FROM shard0005.notes") == 1


def test_transaction_moves_what_there_is(compiled, store):
    done = compiled("transaction")(3, config=store).ok()
    assert done.lines == [
        "70 moved",
        "70 refused: too little",
        "the first has 30",
        "the second has 170",
    ]


def test_move_takes_a_shard_to_another_server(compiled, moving_store, moving_servers):
    one, two = moving_servers
    key = hv("put", 3, 1, "a=b", config=moving_store).ok().out.strip()
    move = compiled("move")
    done = move(3, "two", config=moving_store).ok()
    assert done.lines[-1].startswith("shard 3 is on server two; its callers were stopped for")
    assert has_shard(two, 3) and not has_shard(one, 3)
    assert "a" in hv("get", key, config=moving_store).ok().out
    assert "shard 3" in move(3, "two", config=moving_store).err
    assert_nothing_left(one, two)


@pytest.mark.threads
def test_threads_read_back_all_they_stored(compiled, store, servers):
    done = compiled("threads")(8, 25, config=store).ok()
    assert "8 threads stored and read 200 entities, 0 failed" in done.out
    assert stored_in_all_shards(servers) == 200


def test_put_many_stores_lines_over_all_shards_and_reads_them_back(compiled, store, servers):
    lines = "".join(f"line {i}\n" for i in range(1000))
    done = compiled("put_many")(config=store, input=lines).ok()
    assert done.out == "1000 lines, 1000 stored, 1000 read back\n"
    assert stored_in_all_shards(servers) == 1000


def test_event_loop_drives_thousands_of_operations_in_one_thread(compiled, store, servers):
    done = compiled("event_loop")(2000, 3, config=store).ok()
    assert done.out.startswith("6000 stored, 6000 fetched, 0 failed, in one thread")
    assert stored_in_all_shards(servers) == 6000


def test_the_readmes_commands_work_as_typed(moving_servers, tmp_path):
    readme = (SOURCE / "README.md").read_text("utf-8")
    (commands,) = re.findall(r"```sh\n(hv init.*?)```", readme, re.S)
    (tmp_path / "users.csv").write_text("email,name\na@example,Ada\ng@example,Grace\n")
    assert "[hypervault]\nspread = 0-16" in readme
    left, right = moving_servers
    config = store_config(
        tmp_path / "readme.conf", {"left": (reached(left), "0-8"), "right": (reached(right), "8-16")}
    )
    with open(config, "a", encoding="utf-8") as file:
        file.write("[hypervault]\nspread = 0-16\n")
    env = {"HYPERVAULT_CONFIG": str(config), "PATH": f"{build_dir() / 'cli'}:{os.environ['PATH']}"}
    done = run("bash", "-euc", commands, cwd=tmp_path, env=env).ok()
    assert "boop" in done.out
    assert "Ada" in (tmp_path / "users.ndjson").read_text("utf-8")
    assert left.value("SELECT to_regnamespace('shard0012') IS NOT NULL")


def test_the_commands_about_finding_counting_and_following_work_as_typed(store, tmp_path):
    text = (SOURCE / "docs/finding.md").read_text("utf-8")
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S))
    keys = [
        hv("put", 3 + n, 2, "user=42", f"title=t{n}", "state=open", "place=p", config=store).ok().out
        for n in range(3)
    ]
    env = {"HYPERVAULT_CONFIG": str(store), "PATH": f"{build_dir() / 'cli'}:{os.environ['PATH']}"}
    done = run("bash", "-euc", commands, cwd=tmp_path, env=env).ok()
    assert done.err == "" and "id,shard_id,kind,body" in done.lines and "3" in done.lines
    written = (tmp_path / "photos.ndjson").read_text("utf-8").splitlines()
    assert len(written) == 5 and '"title":"later"' in written[-1]
    assert [key.strip() in line for key, line in zip(keys, written)] == [True] * 3


def test_the_readmes_example_compiles_and_runs(installed, store, tmp_path):
    readme = (SOURCE / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```c\n(.*?)```", readme, re.S)
    (tmp_path / "example.c").write_text(code, "utf-8")
    installed.compile("cc example.c $(pkg-config --cflags --libs hypervault) -o example", tmp_path)
    # It leaves the freeing to the reader, which a leak checker does not like.
    env = {**installed.run_env, "ASAN_OPTIONS": "detect_leaks=0"}
    assert "boop" in run(tmp_path / "example", config=store, env=env).ok().out


# ---- the document about all shards ----


def blocks(document):
    """(language, text) of the code blocks of a document."""
    text = (SOURCE / "docs" / document).read_text("utf-8")
    return re.findall(r"```(\w+)\n(.*?)```", text, re.S)


def normal(output):
    """The output without what differs from run to run: numbers, digests, sizes, the order of rows,
    and the width of columns."""
    output = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", output)
    output = re.sub(r"[\d.]+ (bytes|kB|MB)\b", "SIZE", output)
    output = re.sub(r"\d+", "0", output)
    return sorted(" ".join(line.split()) for line in output.splitlines())


def shell(commands, folder, config, **env):
    """Run commands as typed; what a terminal would show is the result's output."""
    path = f"{build_dir() / 'cli'}:{binaries()}:{os.environ['PATH']}"
    env = {"HYPERVAULT_CONFIG": str(config), "PATH": path, **env}
    return run("bash", "-euc", f"exec 2>&1\n{commands}", cwd=folder, env=env)


def test_the_commands_about_all_shards_print_what_the_document_shows(store, tmp_path):
    found = blocks("schema.md")
    assert sum(language == "text" for language, _ in found) > 10
    for shard in range(1, 17):
        hv("put", shard, 2, "user=42", f"n={shard}", config=store).ok()
    for (language, commands), (after, shown) in zip(found, [*found[1:], ("", "")]):
        if language != "sh":
            continue
        done = shell(commands, tmp_path, store).ok()
        if after == "text":
            assert normal(done.out) == normal(shown), f"{commands}\n{done.out}"

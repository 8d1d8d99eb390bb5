"""hv dev as root: the user that the servers run as; it follows no path that another user controls,
and gives away nothing of root's."""

import os
import pathlib
import pwd
import shutil

import pytest

from private_servers import LITTLE, MARKER, ROOT, dev, folder, place, servers_of  # noqa: F401
from harness import hv, scratch

pytestmark = pytest.mark.skipif(not ROOT, reason="only root could give something away")


def make(path, owner="root", mode=0o755):
    os.mkdir(path)
    shutil.chown(path, owner)
    os.chmod(path, mode)
    return path


def make_link(path, target, owner):
    os.symlink(target, path)
    os.chown(path, pwd.getpwnam(owner).pw_uid, -1, follow_symlinks=False)
    return path


def refused(command, path, *more):
    result = dev(command, path, *more)
    assert (result.code, result.out) == (1, ""), result
    return result.err


def everything_in(path):
    return {str(found): os.lstat(found).st_uid for found in pathlib.Path(path).rglob("*")}


def test_a_link_of_another_user_is_not_followed(place):
    inner = make(f"{place}/inner", mode=0o1777)
    link = make_link(f"{place}/link", inner, "nobody")
    before = everything_in(place)
    assert "belongs to root" in refused("up", link, *LITTLE)
    for path in (f"{link}/new", f"{link}/new/er", f"{link}/../other", f"{place}/./link//x"):
        message = refused("up", path, *LITTLE)
        assert f'root does not follow the symbolic link "{link}"' in message
        assert "belongs to another user" in message
    assert everything_in(place) == before


def test_nor_where_servers_are_used_or_destroyed(place):
    """The link leads to servers of a third user."""
    victims = make(f"{place}/victims", "postgres")
    dev("up", f"{victims}/d", *LITTLE).ok()
    link = make_link(f"{place}/link", victims, "nobody")
    for command, *more in (("status",), ("down",), ("psql",), ("destroy", "--yes"), ("up",)):
        assert "does not follow the symbolic link" in refused(command, f"{link}/d", *more)
    (server,) = servers_of(f"{victims}/d")
    assert server["running"]
    assert os.path.exists(f"{victims}/d/{MARKER}")


def test_links_of_roots_and_of_the_servers_user_are_followed(place):
    postgres = make(f"{place}/postgres", "postgres")
    make_link(f"{place}/roots", postgres, "root")
    make_link(f"{postgres}/own", "../postgres/./", "postgres")
    dev("up", f"{place}/roots/own/d", *LITTLE).ok()
    assert servers_of(f"{postgres}/d")[0]["running"]
    dev("destroy", f"{place}/roots/own/d", "--yes").ok()
    assert os.listdir(postgres) == ["own"]


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_in_which_anybody_may_replace_anything_is_not_entered(place, mode):
    make(f"{place}/open", mode=mode)
    message = refused("up", f"{place}/open/d", *LITTLE)
    assert f'root does not follow the folder "{place}/open"' in message
    assert "Others can write to it" in message
    assert os.listdir(f"{place}/open") == []


def test_a_folder_that_a_group_may_write_to_is_not_entered(place):
    shutil.chown(make(f"{place}/open", mode=0o775), group="nogroup")
    os.chmod(f"{place}/open", 0o775)
    assert "Others can write to it" in refused("up", f"{place}/open/d", *LITTLE)


def test_a_folder_of_another_user_is_not_entered(place):
    home = make(f"{place}/home", "nobody")
    message = refused("up", f"{home}/d", *LITTLE)
    assert f'root does not follow the folder "{home}"' in message
    assert "--user" in message
    assert os.listdir(home) == []
    dev("up", f"{home}/d", *LITTLE, "--user", "nobody").ok()
    assert os.stat(f"{home}/d").st_uid == pwd.getpwnam("nobody").pw_uid


@pytest.mark.parametrize("user", [[], ["--user", "nobody"]])
def test_an_empty_folder_of_roots_stays_roots(place, user):
    empty = make(f"{place}/empty")
    link = make_link(f"{place}/link", empty, "root")
    for path in (empty, link):
        message = refused("up", path, *LITTLE, *user)
        assert "belongs to root" in message and "not there yet" in message
    assert os.stat(empty).st_uid == 0 and os.listdir(empty) == []
    assert os.stat(empty).st_mode & 0o777 == 0o755


def test_in_a_folder_of_roots_a_new_one_is_made_for_the_user():
    place = scratch.folder("way-")
    os.chmod(place, 0o755)
    folder = f"{place}/a/b/c"  # noqa: F811
    try:
        dev("up", folder, *LITTLE).ok()
        assert servers_of(folder)[0]["running"]
        owners = [os.stat(path).st_uid for path in (f"{place}/a", f"{place}/a/b", folder)]
        assert owners == [0, 0, pwd.getpwnam("postgres").pw_uid]
        assert os.stat(folder).st_mode & 0o777 == 0o700
        assert os.listdir(place) == ["a"]
    finally:
        dev("destroy", folder, "--yes").ok()
    assert os.listdir(f"{place}/a/b") == []


# ---- the servers' user ----


def test_root_gives_the_servers_to_another_user(place):
    for user, args in (("postgres", []), ("nobody", ["--user", "nobody"])):
        folder = os.path.join(place, user)
        dev("up", folder, *LITTLE, *args).ok()
        (server,) = servers_of(folder)
        uid = pwd.getpwnam(user).pw_uid
        assert os.stat(folder).st_uid == os.stat(server["data"]).st_uid == uid
        assert os.stat(f"/proc/{server['pid']}").st_uid == uid
        groups = next(
            line.split()[1:]
            for line in pathlib.Path(f"/proc/{server['pid']}/status").read_text().splitlines()
            if line.startswith("Groups:")
        )
        assert "0" not in groups


def test_root_runs_servers_as_the_owner_of_the_folder(place):
    folder = os.path.join(place, "d")
    os.mkdir(folder)
    shutil.chown(folder, "nobody")
    dev("up", folder, *LITTLE).ok()
    assert os.stat(f"{folder}/one/data").st_uid == pwd.getpwnam("nobody").pw_uid
    other = dev("up", folder, "--user", "postgres")
    assert (other.code, other.out) == (1, "")
    assert 'belongs to user "nobody", not to "postgres"' in other.err


@pytest.mark.parametrize(
    "user, message",
    [("root", "PostgreSQL refuses to run as root"), ("no-such", 'there is no user "no-such"')],
)
def test_root_cannot_choose_a_user_that_will_not_do(folder, user, message):
    result = dev("up", folder, "--user", user)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"hv: {message}\n")
    assert not os.path.exists(folder)


def test_for_root_a_folder_that_the_user_cannot_get_to_is_an_error(place):
    closed = os.path.join(place, "closed")
    os.mkdir(closed, 0o700)
    result = dev("up", f"{closed}/deep/er")
    assert (result.code, result.out) == (1, "")
    assert f'has no access to "{closed}"' in result.err
    assert os.listdir(closed) == []


def test_root_does_not_give_away_what_a_link_points_to(place):
    target = os.path.join(place, "target")
    os.mkdir(target)
    link = os.path.join(place, "link")
    os.symlink(target, link)
    result = dev("up", link)
    assert (result.code, result.out) == (1, "")
    assert "belongs to root" in result.err
    assert os.stat(target).st_uid == 0 and os.listdir(target) == []


# ---- names ----


@pytest.mark.parametrize("name", ["c\u009b1m", "b\u202ei", os.fsdecode(b"no\xffutf8")])
def test_a_folders_name_does_nothing_to_a_terminal(place, name):
    result = hv("dev", "up", "--dir", f"{place}/{name}", *LITTLE)
    assert result.code == 1 and "the folder's name" in result.err
    assert os.listdir(place) == []

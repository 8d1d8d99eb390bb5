"""A command that can open no file says so."""

import os

import pytest

from harness import build_dir, hv

MODULE = build_dir() / "tests/failure/no_descriptors.so"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks at the way to the folder")
@pytest.mark.skipif(not MODULE.exists(), reason="a sanitizer's build")
def test_root_that_cannot_look_at_the_way_to_a_folder_says_why(tmp_path):
    env = {"LD_PRELOAD": str(MODULE), "LC_ALL": "C"}
    result = hv("dev", "destroy", "--dir", tmp_path / "d", "--yes", env=env)
    assert (result.code, result.out) == (1, "")
    assert result.err == 'hv: could not look at the folder "/"\n    Too many open files\n'

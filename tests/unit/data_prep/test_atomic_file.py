import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.atomic_file import atomic_file, remove_unfinished, write_atomically


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as file:
        file.write(b"data")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")

    def fail() -> None:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_an_error_with_the_files_name(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"full\.bin") as caught:
            write_atomically(tmp_path / "full.bin", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_write_the_same_file_never_mix(tmp_path: Path) -> None:
    program = "import sys, pathlib, data_prep.atomic_file as a\na.write_atomically(pathlib.Path(sys.argv[1]), b'other')"
    with atomic_file(tmp_path / "a") as file:
        file.write(b"mi")
        file.flush()
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=True)
        assert (tmp_path / "a").read_bytes() == b"other"
        file.write(b"ne")
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_only_unfinished_files_are_removed(tmp_path: Path) -> None:
    names = [".a.json.17.tmp", ".b.json.18.tmp", ".own.tmp", "a.json", "a.json.17.tmp"]
    for name in names:
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, ["a.json"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])

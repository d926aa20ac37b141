"""For lack of room: it is said what is used up, where, and what helps."""

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blip import cli, errors
from blip.errors import exit_code_of
from blip.room import lacks_room, no_room, room_noted
from blip.tracking import store
from tests import tiny

ROOT = Path(__file__).parents[1]
has_mounts = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="no mount namespaces here",
)


@pytest.fixture
def small_files() -> Callable[[Callable[[], object]], Exception]:
    """What comes of work that would write a file of over 100 KB."""

    def error_of(work: Callable[[], object]) -> Exception:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            work()
        except Exception as error:
            return error
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        pytest.fail("it was written")

    return error_of


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def error_of(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([path] if path else []))


def on_small_disk(folder: Path, script: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder where a script mounts `small`, which is there for it alone."""
    (folder / "small").mkdir()
    shell = ["unshare", "-rm", "bash", "-c", script, "bash", *command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(shell, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_a_full_disk_is_named_with_the_way_out(blip, monkeypatch) -> None:
    monkeypatch.setattr(cli, "app", raising(error_of(errno.ENOSPC, "models/pretrain")))
    monkeypatch.chdir(ROOT)

    ended = blip()
    assert ended.code == 1
    assert "no space left on the device (writing models/pretrain; " in ended.err
    assert "the same command continues (`dvc gc -w` drops" in ended.err


def test_a_full_disk_that_is_not_the_projects_is_named_and_not_mended_by_dvc(blip, monkeypatch) -> None:
    monkeypatch.setattr(cli, "app", raising(error_of(errno.ENOSPC, "/dev/shm/pairs/x")))
    monkeypatch.chdir(ROOT)

    said = blip().err
    assert re.search(r"\(writing /dev/shm/pairs/x; [\d,]+ MiB free on the disk of /dev/shm\)", said)
    assert said.endswith("the same command continues\n")


def test_a_full_disk_is_known_by_its_words_too(blip, monkeypatch) -> None:
    monkeypatch.setattr(cli, "app", raising(RuntimeError("write failed: No space left on device")))

    said = blip("ingest", "photos", "--out", "/dev/shm/pairs").err
    assert "no space left on the device (" in said
    assert f"MiB free on the disk of {Path.cwd()}" in said and "MiB free on the disk of /dev/shm" in said


@pytest.mark.parametrize(
    "error",
    [
        error_of(errno.EDQUOT, "/dev/shm/pairs/x"),
        RuntimeError("I/O error: Disk quota exceeded (os error 122)"),
    ],
    ids=["by its number", "by its words"],
)
def test_a_quota_is_no_matter_of_what_is_free(blip, monkeypatch, error: Exception) -> None:
    monkeypatch.setattr(cli, "app", raising(error))

    ended = blip("export", "models/pretrain", "/dev/shm/pairs")
    assert ended.code == 1
    assert ended.err.startswith("error: your quota of the disk is used up (")
    assert "/dev/shm" in ended.err and "MiB" not in ended.err
    assert "remove files of yours, or have it raised, then the same command continues" in ended.err


def test_a_file_over_the_limit_is_said_of_what_python_writes_and_of_what_rust_writes(
    tmp_path: Path, small_files
) -> None:
    for work in (
        lambda: (tmp_path / "large").write_bytes(bytes(200_000)),
        lambda: tiny.save(tmp_path / "model", 1),
    ):
        error = small_files(work)
        assert lacks_room(error)
        assert no_room(error).startswith("a file may not grow any larger (")
        assert "raise the limit (`ulimit -f`" in no_room(error)


CROWDED = """
mount -t tmpfs -o size=20m,nr_inodes=4 tmpfs small
touch small/a small/b small/c
"$@"
"""


@has_mounts
@pytest.mark.parametrize(
    ("work", "named"), [("Path('small/d').touch()", "writing small/d; "), ("os.mkfifo('small/d')", "")]
)
def test_a_disk_that_takes_no_further_file_is_told_from_one_without_a_byte(
    tmp_path: Path, work: str, named: str
) -> None:
    code = f"import os; from pathlib import Path; from blip.errors import exit_code_of; exit_code_of(lambda: {work})"
    ended = on_small_disk(tmp_path, CROWDED, sys.executable, "-c", code, "out", "small/out")
    assert ended.stderr == (
        f"error: no file can be added ({named}0 of 4 inodes free on the disk of {tmp_path / 'small'}). Nothing "
        "half-written is taken for done: remove files, then the same command continues\n"
    )


FULL = """
mount -t tmpfs -o size=3m tmpfs small
"$@"; df --output=avail small >&2
"""
WRITES = """
import sys
from pathlib import Path
from blip.atomic import atomic_path
from blip.errors import exit_code_of

def write():
    with atomic_path(Path("small/out")) as folder:
        folder.mkdir()
        (folder / "card").write_text("text")
        with atomic_path(folder / "weights") as file, file.open("wb", buffering=0) as handle:
            while handle.write(bytes(1 << 16)):
                pass

sys.exit(exit_code_of(write))
"""


@has_mounts
def test_of_a_full_disk_it_is_said_what_was_written_how_far_and_on_which(tmp_path: Path) -> None:
    """What was written is gone by then, and no disk is full any more."""
    ended = on_small_disk(tmp_path, FULL, sys.executable, "-c", WRITES)
    said, _, left = ended.stderr.splitlines()
    where = "writing small/out/weights, 3 MiB of which were written; 0 MiB free on the disk of"
    assert f"no space left on the device ({where} {tmp_path / 'small/out'})." in said
    assert int(left) > 2900


@has_mounts
@pytest.mark.parametrize("workers", ["1", "2"])
def test_of_a_dataset_that_has_no_room_the_folder_is_named(tmp_path: Path, workers: str) -> None:
    source = ROOT / "data/sample/human"
    command = ("ingest", str(source), "--out", "small/out", "--workers", workers)
    ended = on_small_disk(tmp_path, FULL.replace("3m", "300k"), sys.executable, "-m", "blip", *command)
    where = f"writing {tmp_path / 'small/.out.partial'}; 0 MiB free on the disk of {tmp_path / 'small'}"
    assert f"error: no space left on the device ({where})" in ended.stderr


def test_of_a_file_over_the_limit_the_model_is_named(tmp_path: Path, small_files) -> None:
    error = small_files(lambda: tiny.save(tmp_path / "model", 1))
    assert no_room(error).startswith(f"a file may not grow any larger (writing {tmp_path / 'model'}; ")
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_is_not_said_of_the_one_that_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as raised, room_noted(tmp_path / "model"):
        raise error_of(errno.ENOSPC, "/dev/shm/cache")
    assert "(writing /dev/shm/cache; " in no_room(raised.value)


def test_of_what_is_copied_the_copy_is_named() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/source/model", None, "/dev/shm/model")
    assert "(writing /dev/shm/model; " in no_room(error)


def test_other_errors_are_none_of_these() -> None:
    assert not lacks_room(error_of(errno.EACCES, "x"))
    assert not lacks_room(ZeroDivisionError("a defect"))


def test_a_rank_says_it_without_a_traceback(tmp_path: Path, small_files, capsys) -> None:
    def train() -> None:
        raise small_files(lambda: tiny.save(tmp_path / "model", 1))

    assert exit_code_of(train) == errors.FAILED
    assert capsys.readouterr().err.startswith("error: a file may not grow any larger (")
    with pytest.raises(ZeroDivisionError, match="a defect"):
        exit_code_of(raising(ZeroDivisionError("a defect")))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_file_here_that_has_no_room_is_not_the_stores_fault(number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)), store.takes("the page", "start it"):
        raise error_of(number)

"""What is kept, what is recognised as damaged, and what happens when a checkpoint cannot be written."""

import errno
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch

from blip.config import Optimiser, Training
from blip.errors import BlipError
from blip.ports import HOST
from blip.training import checkpoint
from blip.training.checkpoint import COMPLETE, DAMAGED, CheckpointStore
from blip.training.engine import build_engine, start_process_group
from blip.training.owner import OWNER
from blip.training.tensors import Stored, Written, damage, write_tensors
from tests.ports import free_port
from tests.processes import running

ROOT = Path(__file__).parents[2]


class Two(torch.nn.Module):
    """Two layers with one weight, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.get_buffer("count").add_(1)
        return self.second(self.first(x)).square().mean()


def step(engine: Any) -> float:
    loss = engine(torch.rand(3, 4))
    engine.backward(loss)
    engine.step()
    return loss.item()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not torch.distributed.is_initialized():
        start_process_group()  # of one, which lives as long as this process
    monkeypatch.setenv("LOCAL_RANK", "0")
    torch.manual_seed(0)
    optimiser = Optimiser.model_validate({"lr": 0.1, "adam_lr": 0.1})
    return build_engine(Two(), Training.model_validate({"batch_size": 3}), optimiser)


def store_of(folder: Path, **options: Any) -> CheckpointStore:
    return CheckpointStore(folder / "run", {"lr": 1}, keep=options.pop("keep", 2), **options)


def steps_of(store: CheckpointStore) -> list[int]:
    return sorted(int(path.parent.name[5:]) for path in store.directory.glob(f"step-*/{COMPLETE}"))


@pytest.mark.parametrize("behind", [False, True])
def test_what_comes_after_a_checkpoint_comes_again_bit_for_bit(
    engine: Any, tmp_path: Path, behind: bool
) -> None:
    store = store_of(tmp_path, behind=behind)
    step(engine)
    store.save(engine, 1, {"loader": {"epoch": 3}})
    expected = [step(engine) for _ in range(3)]
    count = int(engine.module.count)
    place = store.restore(engine)
    assert place is not None
    assert (place["step"], place["loader"], place["world"]) == (1, {"epoch": 3}, 1)
    assert int(engine.module.count) == count - 3
    assert [step(engine) for _ in range(3)] == expected
    assert engine.module.first.weight is engine.module.second.weight


def test_the_best_stays_beside_the_newest(engine: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path, keep_best=True)
    for number, loss in enumerate((5.0, 1.0, 9.0, 9.0, 9.0), 1):
        store.note(loss)
        store.save(engine, number, {})
    assert steps_of(store) == [2, 4, 5]
    assert store.best() == store.directory / "step-000002"
    again = store_of(tmp_path, keep_best=True)
    again.restore(engine)
    assert again.loss == pytest.approx(store.loss)
    for number in (4, 5):
        shutil.rmtree(store.directory / f"step-00000{number}")
    place = again.restore(engine)
    assert place is not None and place["step"] == 2, "that is how to go back to it"
    plain = store_of(tmp_path / "plain")
    for number in range(1, 5):
        plain.save(engine, number, {})
    assert steps_of(plain) == [3, 4]


def test_one_lucky_loss_is_no_best(engine: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path, keep_best=True)
    for number, loss in enumerate((5.0, 1.0, 4.0, 4.0, 9.0, 9.0), 1):
        store.note(loss)
        store.save(engine, number, {})
    assert steps_of(store) == [4, 5, 6]


def test_steps_are_numbers_and_not_texts(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    for number in (999_999, 1_000_000):
        (store.directory / f"step-{number:06d}").mkdir()
        (store.directory / f"step-{number:06d}" / COMPLETE).write_text("{}")
    latest = store.latest()
    assert latest is not None and latest.name == "step-1000000"


@pytest.mark.parametrize("how", ["cut", "changed", "missing"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_is_used(
    engine: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    store = store_of(tmp_path)
    for number in (1, 2):
        step(engine)
        store.save(engine, number, {})
    file = store.directory / "step-000002/rank0.safetensors"
    content = file.read_bytes()
    file.unlink()
    if how != "missing":
        file.write_bytes(content[:-9] if how == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    place = store.restore(engine)
    assert place is not None and place["step"] == 1
    said = capfd.readouterr().err
    assert "step-000002: rank0.safetensors" in said and "the one before it is used" in said
    assert store.latest() == store.directory / "step-000001"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[: len(text) // 2], id="half"),
        pytest.param(lambda text: "{}", id="nothing in it"),
        pytest.param(lambda text: "[]", id="a list"),
        pytest.param(lambda text: text.replace('"sha256"', '"md5"'), id="other digests"),
        pytest.param(lambda text: text.replace('"step": 2', '"step": 1'), id="of another step"),
        pytest.param(lambda text: "\0" * len(text), id="zeros, as after a power cut"),
    ],
)
def test_a_damaged_marker_is_said_and_the_checkpoint_before_it_is_used(
    engine: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], spoil: Callable[[str], str]
) -> None:
    store = store_of(tmp_path, keep_best=True)
    for number in (1, 2):
        store.note(3.0 - number)
        store.save(engine, number, {})
    marker = store.directory / "step-000002" / COMPLETE
    marker.write_text(spoil(marker.read_text()))
    assert store.best() == store.directory / "step-000001"
    place = store_of(tmp_path, keep_best=True).restore(engine)
    assert place is not None and place["step"] == 1
    assert "step-000002: its file 'complete' is " in capfd.readouterr().err


class Unreadable:
    """The disk of a server that starts again: files of a name cannot be opened, the first so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, times: float) -> None:
        self.left, opened = times, Path.open

        def opens(path: Path, *arguments: Any, **options: Any) -> Any:
            if path.name == name and self.left > 0:
                self.left -= 1
                raise OSError(errno.ESTALE, "Stale file handle", str(path))
            return opened(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", opens)
        monkeypatch.setattr("blip.rereading.PAUSES", (0.0, 0.0))


@pytest.mark.parametrize("name", [COMPLETE, "rank0.safetensors"])
def test_a_checkpoint_that_cannot_be_read_for_a_moment_is_used(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    store.save(engine, 2, {})
    Unreadable(monkeypatch, name, times=2)
    place = store.restore(engine)
    assert place is not None and place["step"] == 2
    assert steps_of(store) == [1, 2]


@pytest.mark.parametrize("name", [COMPLETE, "rank0.safetensors"])
def test_checkpoints_that_cannot_be_read_stay_as_they_are(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    store.save(engine, 2, {})
    disk = Unreadable(monkeypatch, name, times=math.inf)
    with pytest.raises(BlipError, match=r"cannot be read: .*Stale file handle.*run the stage again"):
        store.restore(engine)
    disk.left = 0
    assert store.usable() == store.directory / "step-000002"


def test_the_best_stays_where_it_cannot_be_seen_which_it_is(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path, keep=1, keep_best=True)
    for number, loss in enumerate((1.0, 9.0), 1):
        store.note(loss)
        store.save(engine, number, {})
    disk = Unreadable(monkeypatch, COMPLETE, times=1)
    store.save(engine, 3, {})
    assert disk.left == 0 and "stay for now, as one cannot be read" in capsys.readouterr().err
    assert steps_of(store) == [1, 2, 3]
    store.save(engine, 4, {})
    assert steps_of(store) == [1, 4]


def test_without_open_files_left_no_checkpoint_is_given_up(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    monkeypatch.setattr("blip.rereading.PAUSES", ())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(BlipError, match=r"cannot be read: .*Too many open files"):
            store.restore(engine)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert store.usable() == store.directory / "step-000001"


RANK = """
import sys
from pathlib import Path

import torch.distributed as dist

from blip import rereading
from blip.errors import BlipError
from blip.training.checkpoint import CheckpointStore

rereading.PAUSES = ()
dist.init_process_group("gloo")
rank = dist.get_rank()
store = CheckpointStore(Path(sys.argv[1]), {"lr": 1}, keep=2, rank=rank, world=2)
opened = Path.open

def opens(path, *arguments, **options):
    if rank == 1 and path.name == "model.safetensors":  # its share
        raise OSError(116, "Stale file handle")
    return opened(path, *arguments, **options)

Path.open = opens
try:
    print(store.usable())
except BlipError as error:
    print(error)
"""


def test_what_one_rank_cannot_read_is_used_by_none(engine: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(free_port()),
    }
    command = [sys.executable, "-c", RANK, str(store.directory)]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    ranks = [environment | {"WORLD_SIZE": "2", "RANK": str(rank)} for rank in range(2)]
    with (
        running(command, env=ranks[0], **options) as first,
        running(command, env=ranks[1], **options) as second,
    ):
        said = [one.communicate(timeout=120)[0] for one in (first, second)]
    assert "cannot be read: another rank failed" in said[0]
    assert "cannot be read: [Errno 116] Stale file handle" in said[1]
    assert store.usable() == store.directory / "step-000001"


def test_where_all_checkpoints_are_damaged_the_run_does_not_begin_again(engine: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    contents: dict[Path, bytes] = {}
    for number in (1, 2):
        store.save(engine, number, {})
        file = store.directory / f"step-00000{number}/model.safetensors"
        contents[file] = file.read_bytes()
        file.write_bytes(contents[file][:-9])
    for _ in range(2):
        with pytest.raises(BlipError, match=r"damaged \(step-000001, step-000002\).*at step 0\..*rename"):
            store_of(tmp_path).restore(engine)
    for file, content in contents.items():
        file.write_bytes(content)
        (file.parent / DAMAGED).rename(file.parent / COMPLETE)
    place = store_of(tmp_path).restore(engine)
    assert place is not None and place["step"] == 2, "that is how to use them after all"


def test_a_copy_of_a_checkpoint_is_passed_over_and_stays(
    engine: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    copies = [store.directory / name for name in ("step-000001.bak", "step-1", "step-old")]
    for copy in copies:
        shutil.copytree(store.directory / "step-000001", copy)
    store.save(engine, 2, {})
    store.save(engine, 3, {})
    place = store_of(tmp_path).restore(engine)
    assert place is not None and place["step"] == 3
    assert [(store.directory / f"step-00000{n}").is_dir() for n in (1, 2, 3)] == [False, True, True]
    said = capfd.readouterr().err
    assert all(f"{copy} is passed over" in said and (copy / COMPLETE).is_file() for copy in copies)


def test_a_checkpoint_that_another_run_wrote_here_is_passed_over(
    engine: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    store.save(engine, 2, {})
    marker = store.directory / "step-000002" / COMPLETE
    marker.write_text(marker.read_text().replace(store.fingerprint, "0" * 64))
    place = store_of(tmp_path).restore(engine)
    assert place is not None and place["step"] == 1
    assert "step-000002: a run with other settings or data wrote it" in capfd.readouterr().err


def test_what_was_broken_off_is_removed(engine: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    (store.directory / "step-000002").mkdir()
    (store.directory / "step-000002/model.safetensors").write_bytes(b"half")
    assert store.restore(engine) is not None
    assert not (store.directory / "step-000002").exists()


@pytest.mark.parametrize("behind", [False, True])
def test_an_old_one_that_cannot_be_removed_costs_no_new_one_and_goes_at_a_later_save(
    engine: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], behind: bool
) -> None:
    store = store_of(tmp_path, keep=1, behind=behind)
    store.save(engine, 1, {})
    store.wait()
    old, elsewhere = store.directory / "step-000001", tmp_path / "elsewhere"
    old.rename(elsewhere)
    old.symlink_to(elsewhere)  # which rmtree refuses to remove
    store.save(engine, 2, {})
    store.wait()
    assert store_of(tmp_path).usable() == store.directory / "step-000002"
    assert f"old checkpoint {old} cannot be removed now: " in capfd.readouterr().err
    old.unlink()
    elsewhere.rename(old)
    store.save(engine, 3, {})
    store.wait()
    assert [path.name for path in store.directory.glob("step-*")] == ["step-000003"]


@pytest.mark.parametrize(
    ("zero_stage", "optimiser"),
    [(0, "adamw"), (1, "adamw"), (2, "adamw"), (3, "adamw"), (0, "muon"), (1, "muon")],
)
def test_a_file_that_a_run_has_gone_on_from_is_not_held_open(
    engine: Any, tmp_path: Path, zero_stage: int, optimiser: str
) -> None:
    training = Training.model_validate({"batch_size": 3, "zero_stage": zero_stage})
    engine = build_engine(
        Two(), training, Optimiser.model_validate({"name": optimiser, "lr": 0.1, "adam_lr": 0.1})
    )
    step(engine)
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    assert store.restore(engine) is not None
    assert str(store.directory) not in Path("/proc/self/maps").read_text()
    step(engine)


@pytest.mark.parametrize("behind", [False, True])
def test_a_full_disk_leaves_the_checkpoint_before_it(engine: Any, tmp_path: Path, behind: bool) -> None:
    store = store_of(tmp_path, behind=behind)
    store.save(engine, 1, {})
    store.wait()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(
            BlipError, match=r"could not be written: .*one before it is good; make room"
        ) as raised:
            store.save(engine, 2, {})
            store.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(raised.value.__cause__, OSError)
    assert store_of(tmp_path).usable() == store.directory / "step-000001"


def test_where_there_is_no_room_for_the_first_none_is_said_to_be_good(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(
        BlipError, match=r"written: .*No space left.* None is complete yet; make room .* step 0"
    ):
        store.save(engine, 1, {})


def test_an_error_behind_the_training_is_raised_at_the_next_step(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, behind=True)
    monkeypatch.setattr(checkpoint, "LONGEST_WAIT", 0.1)
    store.world = 2  # of whom the other never writes
    store.save(engine, 1, {})
    assert store._thread is not None
    store._thread.join()
    with pytest.raises(BlipError, match=r"rank1\.json did not appear within"):
        store.check()
    assert store.latest() is None


def test_a_checkpoint_waits_until_the_one_before_it_is_written(engine: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path, behind=True)
    store.world = 2  # of whom the other writes a little later
    store.save(engine, 1, {})
    assert steps_of(store) == []
    other = Timer(0.5, (store.directory / "step-000001/rank1.json").write_text, ("{}",))
    other.start()
    step(engine)
    store.save(engine, 2, {})
    assert steps_of(store) == [1]
    (store.directory / "step-000002/rank1.json").write_text("{}")
    store.wait()
    other.join()
    assert steps_of(store) == [1, 2]
    weights = [Stored([store.directory / f"step-00000{n}/model.safetensors"]) for n in (1, 2)]
    assert len({tuple(one.whole("first.weight").flatten().tolist()) for one in weights}) == 2


def test_a_run_of_other_settings_starts_anew(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    (store.directory / "step-000003").mkdir()
    assert store.latest() is None, "without its marker a checkpoint does not count"
    (store.directory / "step-000003" / COMPLETE).write_text("{}")
    assert store_of(tmp_path).latest() == store.directory / "step-000003"


def test_checkpoints_of_other_settings_are_kept_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path)
    checkpoint = store.directory / "step-000003"
    checkpoint.mkdir()
    (checkpoint / COMPLETE).write_text("{}")
    assert store_of(tmp_path).latest() == checkpoint

    assert CheckpointStore(store.directory, {"lr": 2}, keep=2).latest() is None
    (aside,) = tmp_path.glob("run.*")
    assert (aside / checkpoint.name / COMPLETE).is_file()
    said = capsys.readouterr().err
    assert f"(lr was 1, is 2). They are in {aside} now" in said
    assert "this one starts anew" in said
    other = store.directory / "step-000001"
    other.mkdir()
    (other / COMPLETE).write_text("{}")

    assert store_of(tmp_path).latest() == checkpoint, "with its settings it goes on"
    assert "this one goes on with its own" in capsys.readouterr().err
    (kept,) = tmp_path.glob("run.*")
    assert (kept / other.name / COMPLETE).is_file()


def test_a_run_that_takes_the_place_of_one_without_a_checkpoint_has_another_folder(tmp_path: Path) -> None:
    """By which whoever follows its curve tells it from the one before."""
    before = store_of(tmp_path).directory.stat().st_ino
    for lr in range(2, 12):
        folder = CheckpointStore(tmp_path / "run", {"lr": lr}, keep=2).directory
        assert folder.stat().st_ino != before
        before = folder.stat().st_ino
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("now", "goes_on"),
    [
        ({"lr": 1, "new": {"flip": False}}, True),
        ({"lr": 1, "new": {"flip": False}, "chosen": 3}, False),
        ({"lr": 2, "new": {"flip": False}}, False),
        ({"new": {"flip": False}}, False),
    ],
)
def test_a_run_of_an_earlier_version_goes_on_where_what_is_new_is_not_set(
    engine: Any, tmp_path: Path, now: dict[str, Any], goes_on: bool
) -> None:
    before = store_of(tmp_path)
    for number in (1, 2):
        before.save(engine, number, {})
    marker = before.directory / "step-000002" / COMPLETE
    marker.write_text(marker.read_text().replace(before.fingerprint, "0" * 64))  # of another run

    store = CheckpointStore(before.directory, now, keep=2, unset={"new.flip"})
    place = store.restore(engine)
    assert (place and place["step"]) == (1 if goes_on else None)
    assert json.loads((store.directory / OWNER).read_text()) == {
        "fingerprint": store.fingerprint,
        "identity": now,
    }
    assert bool(list(tmp_path.glob("run.*"))) != goes_on


@pytest.mark.parametrize("put_aside", [False, True])
def test_one_that_did_not_note_its_vocabulary_goes_on_and_says_so_once(
    engine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], put_aside: bool
) -> None:
    before = store_of(tmp_path)
    before.save(engine, 1, {})
    if put_aside:
        CheckpointStore(before.directory, {"lr": 2}, keep=2)
    capsys.readouterr()
    for said in (1, 0):
        store = CheckpointStore(before.directory, {"lr": 1, "vocabulary": "a"}, keep=2)
        place = store.restore(engine)
        assert place and place["step"] == 1
        assert capsys.readouterr().err.count("of an earlier version, which did not note their") == said

    assert CheckpointStore(before.directory, {"lr": 1, "vocabulary": "b"}, keep=2).latest() is None
    assert "(vocabulary was a, is b)" in capsys.readouterr().err


def test_one_that_was_put_aside_before_the_update_is_found_after_it(
    engine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = store_of(tmp_path)
    before.save(engine, 1, {})
    other = CheckpointStore(before.directory, {"lr": 2}, keep=2)
    other.save(engine, 2, {})

    now = {"lr": 1, "new": {"flip": False}}
    store = CheckpointStore(before.directory, now, keep=2, unset={"new.flip"})
    place = store.restore(engine)
    assert place and place["step"] == 1
    assert "this one goes on with its own" in capsys.readouterr().err
    (aside,) = tmp_path.glob("run.*")
    assert json.loads((aside / OWNER).read_text())["identity"] == {"lr": 2}
    assert CheckpointStore(before.directory, {"lr": 3}, keep=2).latest() is None


def test_checkpoints_stay_where_it_cannot_be_read_whose_they_are(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    disk = Unreadable(monkeypatch, OWNER, times=math.inf)
    with pytest.raises(BlipError, match=r"run has cannot be read: .*Stale file handle.*run the stage again"):
        store_of(tmp_path)
    disk.left = 2
    assert store_of(tmp_path).latest() == store.directory / "step-000001"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("text", [None, "", '{"finger', "[]"], ids=["gone", "empty", "half", "a list"])
def test_checkpoints_say_too_whose_they_are(
    engine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    store = store_of(tmp_path)
    store.save(engine, 1, {})
    owner = store.directory / OWNER
    written = owner.read_text()
    owner.unlink() if text is None else owner.write_text(text)
    assert store_of(tmp_path).latest() == store.directory / "step-000001"
    assert owner.read_text() == written
    owner.unlink() if text is None else owner.write_text(text)
    assert CheckpointStore(store.directory, {"lr": 2}, keep=2).latest() is None
    assert f"(something else). They are in {tmp_path / 'run'}." in capsys.readouterr().err
    assert store_of(tmp_path).latest() == store.directory / "step-000001"


def test_checkpoints_of_which_nothing_says_whose_they_are_are_not_moved(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    (store.directory / "step-000003").mkdir()
    (store.directory / "step-000003" / COMPLETE).write_text("{")
    (store.directory / OWNER).unlink()
    with pytest.raises(
        BlipError, match=r"neither run\.json nor they say of which run: .*Move the folder away"
    ):
        store_of(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_nothing_in_a_checkpoint_is_a_pickle(engine: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    step(engine)
    store.save(engine, 1, {})
    files = {path.name for path in (store.directory / "step-000001").iterdir()}
    assert files == {"model.safetensors", "rank0.safetensors", "rank0.json", COMPLETE}
    marker = json.loads((store.directory / "step-000001" / COMPLETE).read_text())
    assert set(marker["files"]) == {"model.safetensors", "rank0.safetensors"}


def test_tensors_come_back_as_they_were_and_in_slices(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(6.0).view(2, 3).T,
        "b": torch.tensor(7),
        "c": torch.zeros(0),
        "d": torch.ones(3, dtype=torch.bfloat16),
        "p|m|0": torch.arange(4.0),
    }
    first = write_tensors(tmp_path / "1.safetensors", tensors)
    write_tensors(tmp_path / "2.safetensors", {"p|m|4": torch.arange(4.0, 9.0), "p|step": torch.tensor(3.0)})
    stored = Stored([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    for name in "abcd":
        assert (
            torch.equal(stored.whole(name), tensors[name]) and stored.whole(name).dtype == tensors[name].dtype
        )
    assert stored.keys_of("p") == ["m", "step"] and stored.whole("p|step") == 3
    assert stored.slice("p", "m", 2, 5).tolist() == [2, 3, 4, 5, 6]
    with pytest.raises(KeyError, match="2 of 4 elements from 7 on"):
        stored.slice("p", "m", 7, 4)
    assert damage(tmp_path / "1.safetensors", first) is None
    assert damage(tmp_path / "2.safetensors", Written(first.bytes, first.sha256)) is not None

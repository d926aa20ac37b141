import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from PIL import Image

from blip.config import Settings, load_settings
from blip.data.kept import keep
from blip.data.pairs import PairsDataset
from blip.data.text import Tokenizer
from blip.errors import BadArguments, BlipError
from blip.ingest import origins
from blip.stages import ingest
from blip.tracking.runs import StageRun
from blip.validation import validate

ROOT = Path(__file__).parents[2]
NO_RUN = cast(StageRun, None)  # the stage itself logs nothing


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Folders of pictures, one of the training ones being a test picture."""
    names = ["red apple", "green pear", "blue plum", "old car", "new car", "tall tree"]
    for seed, name in enumerate(names):
        draw(tmp_path / f"sources/train/{name}.png", seed)
        draw(tmp_path / f"sources/test/{name}.png", seed + 100)
        draw(tmp_path / f"sources/more/deep/{name}.png", seed + 200)
    draw(tmp_path / "sources/train/leaked picture.png", 103)
    monkeypatch.setenv("BLIP_WORKERS", "1")
    monkeypatch.chdir(tmp_path)
    return settings_of(train="train", test="evaluation")


def settings_of(changed: dict[str, Any] | None = None, **roles: str) -> Settings:
    """The settings for some of the folders, each in a role."""
    datasets = {
        name: {"source": f"sources/{name}", "kind": "folder", "origin": "human", "role": role}
        for name, role in roles.items()
    }
    overrides = {"ingest.datasets": datasets, "ingest.samples_per_shard": 4, "ingest.vocabulary.size": 100}
    return load_settings(ROOT / "params.yaml", overrides=overrides | (changed or {}))


def test_how_much_of_the_captions_a_vocabulary_does_not_know_is_said(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest.run(settings, NO_RUN, None)
    assert "; 0.0% of the captions' tokens are unknown to it\n" in capsys.readouterr().out
    (tmp_path / "bare.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    given = {"ingest.vocabulary.file": str(tmp_path / "bare.txt")}
    ingest.run(settings_of(given, train="train", test="evaluation"), NO_RUN, None)
    assert "vocabulary: 5 entries; 100.0% of the captions' tokens" in capsys.readouterr().out


def test_sources_become_datasets_and_a_vocabulary(settings: Settings) -> None:
    metrics = ingest.run(settings, NO_RUN, None)
    train, test = (PairsDataset.open(f"data/datasets/{name}") for name in ("train", "test"))
    assert (len(train), len(test)) == (6, 6)
    assert train.manifest.quarantined == {"near_duplicate": 1}
    tokenizer = Tokenizer.from_vocabulary("data/datasets/vocabulary/vocab.txt")
    assert "car" in tokenizer.vocabulary
    assert metrics == {
        "ingest.vocabulary": len(tokenizer.vocabulary),
        "ingest.train.samples": 6,
        "ingest.train.quarantined": 0,
        "ingest.train.near_duplicates": 1,
        "ingest.test.samples": 6,
        "ingest.test.quarantined": 0,
        "ingest.test.near_duplicates": 0,
    }


def test_a_text_that_is_left_out_counts_as_no_sample(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "sources/train/captions.csv"
    names = ["red apple", "green pear", "blue plum", "old car", "new car"]
    table.write_text("image,caption\n" + "".join(f"{name}.png,a {name}\n{name}.png,\n" for name in names))
    for refused in ("tall tree", "leaked picture"):
        (tmp_path / f"sources/train/{refused}.png").unlink()
    changed = {"ingest.datasets.train.kind": "table", "ingest.max_bad_fraction": 0.6}
    metrics = ingest.run(settings_of(changed, train="train", test="evaluation"), NO_RUN, None)
    line = "train: 5 samples in 3 shard(s); left out: none; texts left out: 5 empty_caption\n"
    assert line in capsys.readouterr().out
    assert (metrics["ingest.train.quarantined"], metrics["ingest.train.refused_texts"]) == (0, 5)


def test_a_training_set_keeps_away_from_the_evaluation_sets_that_it_names(settings: Settings) -> None:
    roles = {"train": "train", "test": "evaluation", "more": "evaluation"}
    for apart, refused in ((None, {"near_duplicate": 1}), (["more"], {}), ([], {})):
        ingest.run(settings_of({"ingest.datasets.train.apart_from": apart}, **roles), NO_RUN, None)
        dataset = PairsDataset.open("data/datasets/train")
        assert dataset.manifest.quarantined == refused
        assert len(dataset) == 7 - len(refused)
    made = settings_of({"ingest.datasets.train.apart_from": ["more"]}, **roles)
    datasets = {
        name: (PairsDataset.open(f"data/datasets/{name}"), source)
        for name, source in made.ingest.datasets.items()
    }
    rules = made.validate_.model_copy(update={"min_samples": 1})
    assert all(verdict.passed for verdict in validate(datasets, rules, Path("pages")))
    strict = {
        name: (one, source.model_copy(update={"apart_from": None}))
        for name, (one, source) in datasets.items()
    }
    (problem,) = next(v.problems for v in validate(strict, rules, Path("pages")) if v.name == "train")
    assert "no picture is one of an evaluation dataset" in str(problem)


@pytest.mark.parametrize(
    ("name", "apart", "message"),
    [
        ("train", ["tset"], "datasets.train.apart_from: tset is no evaluation dataset"),
        ("test", [], "datasets.test.apart_from: it is no training dataset"),
    ],
)
def test_it_can_only_keep_away_from_evaluation_sets(
    settings: Settings, name: str, apart: list[str], message: str
):
    with pytest.raises(BadArguments, match=re.escape(message)):
        settings_of({f"ingest.datasets.{name}.apart_from": apart}, train="train", test="evaluation")


def test_a_broken_source_stops_the_stage(settings: Settings) -> None:
    Path("sources/train/old car.png").write_bytes(b"no picture")
    with pytest.raises(BlipError, match="1 of 7 samples cannot be used"):
        ingest.run(settings, NO_RUN, None)
    assert not Path("data/datasets/train").exists()


def made() -> dict[str, int]:
    """Which shards and vocabulary there are, and when each was written."""
    root = Path("data/datasets")
    files = [*root.glob("[a-z]*/shards/*.tar"), *root.glob("*/vocab.txt")]
    return {str(file.relative_to(root)): file.stat().st_mtime_ns for file in files}


def anew(settings: Settings) -> set[str]:
    """The datasets that another run of the stage makes anew."""
    before = made()
    ingest.run(settings, NO_RUN, None)
    return {name.partition("/")[0] for name, when in made().items() if before.get(name) != when}


def test_what_would_come_out_the_same_is_kept(settings: Settings) -> None:
    first = ingest.run(settings, NO_RUN, None)
    assert anew(settings) == set()
    assert ingest.run(settings, NO_RUN, None) == first


def test_what_was_finished_before_the_stage_failed_is_kept(settings: Settings) -> None:
    both = settings_of(test="evaluation", train="train", more="train")
    broken = Path("sources/more/deep/red apple.png")
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    with pytest.raises(BlipError, match="1 of 6 samples cannot be used"):
        ingest.run(both, NO_RUN, None)
    broken.write_bytes(whole)
    assert anew(both) == {"more", "vocabulary"}


def test_a_dataset_more_makes_no_other_anew(settings: Settings) -> None:
    ingest.run(settings, NO_RUN, None)
    assert anew(settings_of(test="evaluation", train="train", more="train")) == {"more", "vocabulary"}


def test_a_picture_that_changed_deep_in_a_source_is_read(settings: Settings) -> None:
    both = settings_of(test="evaluation", train="train", more="train")
    ingest.run(both, NO_RUN, None)
    draw(Path("sources/more/deep/red apple.png"), 300)
    assert anew(both) == {"more", "vocabulary"}


def test_a_file_above_the_datasets_is_not_made_anew_by_them(settings: Settings) -> None:
    alone = of_list("data")
    ingest.run(alone, NO_RUN, None)
    Path("data/datasets/.more.partial").mkdir()
    Path("data/datasets/.more.partial/shards").write_text("of another run")
    assert anew(alone) == set()
    draw(Path("data/photos/old car.png"), 500)
    assert anew(alone) == {"listed", "vocabulary"}


def of_list(folder: str, images: str | None = None) -> Settings:
    """The settings for a list of pictures in a folder."""
    names = ("red apple", "old car")
    for seed, name in enumerate(names):
        draw(Path(images or f"{folder}/photos") / f"{name}.png", seed + 400)
    Path(folder).mkdir(exist_ok=True)
    prefix = "" if images else "photos/"
    rows = [f"{prefix}{name}.png,{name}" for name in names]
    Path(f"{folder}/list.csv").write_text("\n".join(("image,caption", *rows)))
    told = {"source": f"{folder}/list.csv", "kind": "table", "origin": "human", "role": "train"}
    return settings_of({"ingest.datasets": {"listed": {**told, "images": images}}})


def test_of_the_folder_of_a_list_whose_pictures_lie_elsewhere_what_is_read_counts(settings: Settings) -> None:
    listed = of_list("lists", "photos")
    ingest.run(listed, NO_RUN, None)
    Path("lists/another.csv").write_text("image,caption")
    draw(Path("lists/more/plum.png"), 600)
    assert anew(listed) == set()
    Path("lists/truth.csv").write_text("image,label\nold car.png,car")
    assert anew(listed) == {"listed", "vocabulary"}


def test_a_dataset_that_was_noted_with_all_that_lies_beside_its_list_is_kept(settings: Settings) -> None:
    listed = of_list("lists", "photos")
    draw(Path("lists/more/plum.png"), 600)
    ingest.run(listed, NO_RUN, None)
    target, source = Path("data/datasets/listed"), listed.ingest.datasets["listed"]
    assert source
    before = origins._origins(source, listed.ingest, all_beside=True)
    keep(target, before | {"references": None})
    assert anew(listed) == set()
    draw(Path("lists/more/plum.png"), 700)
    assert anew(listed) == set()


def test_a_file_that_goes_while_it_is_looked_at_does_not_count(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    facts = origins._facts(tmp_path)
    assert next(facts)[0].endswith("a")
    (tmp_path / "b").unlink()
    assert [name for name, *_ in facts] == [str(tmp_path / "c")]


def test_an_evaluation_set_more_makes_anew_what_has_a_picture_like_one_of_it(settings: Settings) -> None:
    both = {"train": "train", "more": "train", "test": "evaluation"}
    ingest.run(settings_of(**both), NO_RUN, None)
    draw(Path("sources/other/red apple.png"), 400)
    assert anew(settings_of(**both, other="evaluation")) == {"other", "vocabulary"}
    draw(Path("sources/another/red apple.png"), 203)  # `more` has it
    wanted = settings_of(**both, other="evaluation", another="evaluation")
    assert anew(wanted) == {"another", "more", "vocabulary"}
    assert PairsDataset.open("data/datasets/more").manifest.quarantined == {"near_duplicate": 1}
    assert anew(wanted) == set()


def test_a_picture_comes_back_when_the_evaluation_set_it_was_like_is_gone(settings: Settings) -> None:
    ingest.run(settings, NO_RUN, None)
    assert len(PairsDataset.open("data/datasets/train")) == 6
    assert anew(settings_of(train="train", more="evaluation")) == {"more", "train", "vocabulary"}
    assert len(PairsDataset.open("data/datasets/train")) == 7


def test_other_evaluation_pictures_make_the_training_sets_anew(settings: Settings) -> None:
    ingest.run(settings, NO_RUN, None)
    shutil.copy("sources/train/old car.png", "sources/test/old car.png")
    assert anew(settings) == {"test", "train", "vocabulary"}
    assert PairsDataset.open("data/datasets/train").manifest.quarantined == {"near_duplicate": 1}
    assert len(PairsDataset.open("data/datasets/train")) == 6


@pytest.mark.parametrize(
    ("changed", "which"),
    [
        ({"ingest.samples_per_shard": 3}, {"test", "train", "vocabulary"}),
        ({"ingest.datasets.train.grey_range": [0, 4095]}, {"train", "vocabulary"}),
        ({"ingest.near_duplicate_bits": 2}, {"train", "vocabulary"}),
        ({"ingest.vocabulary.size": 120}, {"vocabulary"}),
        ({"pretrain.steps": 7}, set()),
    ],
)
def test_other_settings_make_anew_what_they_decide(
    settings: Settings, changed: dict[str, Any], which: set[str]
) -> None:
    ingest.run(settings, NO_RUN, None)
    assert anew(settings_of(changed, train="train", test="evaluation")) == which


def test_another_format_makes_all_anew_and_other_code_the_vocabulary(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.run(settings, NO_RUN, None)
    monkeypatch.setattr("blip.stages.ingest.code_digest", lambda *_: "another")
    assert anew(settings) == {"vocabulary"}
    monkeypatch.setattr("blip.ingest.origins.FORMAT", 0)
    assert anew(settings) == {"test", "train", "vocabulary"}


def test_other_rights_of_a_file_make_nothing_anew(settings: Settings) -> None:
    ingest.run(settings, NO_RUN, None)
    Path("sources/train/old car.png").chmod(0o600)
    assert anew(settings) == set()


def test_a_dataset_that_is_not_what_was_finished_is_made_anew(settings: Settings) -> None:
    ingest.run(settings, NO_RUN, None)
    Path("data/datasets/train/shards/00001.tar").unlink()
    assert anew(settings) == {"train", "vocabulary"}


def test_nothing_of_other_settings_is_left_by_a_run_that_fails(settings: Settings) -> None:
    ingest.run(settings, NO_RUN, None)
    Path("sources/train/old car.png").write_bytes(b"no picture")
    with pytest.raises(BlipError, match="1 of 7 samples cannot be used"):
        ingest.run(settings, NO_RUN, None)
    assert {name.partition("/")[0] for name in made()} == {"test"}
    assert not Path("data/datasets/train").exists()


def test_what_a_run_that_fails_put_aside_is_there_again_when_it_is_right_again(settings: Settings) -> None:
    ingest.run(settings, NO_RUN, None)
    first, broken = made(), Path("sources/train/old car.png")
    whole, times = broken.read_bytes(), broken.stat()
    broken.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(BlipError, match="1 of 7 samples cannot be used"):
            ingest.run(settings, NO_RUN, None)
        assert not Path("data/datasets/train").exists()
    broken.write_bytes(whole)
    os.utime(broken, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert anew(settings) == {"train", "vocabulary"}  # which are there again
    assert {name: when for name, when in made().items() if "shards" in name}.items() <= first.items()
    assert not list(Path("data/datasets").glob(".*.before"))


def test_a_folder_that_is_missing_is_said_before_anything_is_made(settings: Settings) -> None:
    shutil.rmtree("sources/train")
    with pytest.raises(BlipError, match="source sources/train: no such folder"):
        ingest.run(settings, NO_RUN, None)
    assert not Path("data/datasets").exists()


def test_dvc_leaves_what_was_finished_where_it_is(settings: Settings) -> None:
    """The real stage under DVC: what the run that fails has finished is there for the next one."""
    spec = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["ingest"]
    outs = {Path(place).name: how for out in spec["outs"] for place, how in out.items()}
    names = {"test": "test", "train": "human", "vocabulary": "vocabulary"}  # and what they are called here
    spec["outs"] = [{f"data/datasets/{name}": outs[here]} for name, here in names.items()]
    spec |= {"deps": ["sources"], "params": ["ingest"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"ingest": spec}}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["ingest"] = settings.ingest.model_dump(mode="json", exclude={"download"})
    Path("params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(ROOT / ".dvc", ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(
        ["git", "init", "--quiet"], env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}, check=True
    )
    whole = Path("sources/train/old car.png").read_bytes()
    Path("sources/train/old car.png").write_bytes(b"no picture")
    assert repro().returncode == 255
    kept = made()
    assert {name.partition("/")[0] for name in kept} == {"test"}
    Path("sources/train/old car.png").write_bytes(whole)
    assert repro().returncode == 0
    assert made().items() >= kept.items()
    assert len(PairsDataset.open("data/datasets/train")) == 6


def repro() -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PYTHONPATH": str(ROOT), "PATH": search, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    command = [sys.executable, "-m", "dvc", "repro", "ingest"]
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)

"""CapFilt twice and thrice at toy size: every round is apart, and kill -9 anywhere costs only what was at work."""

import json
import os
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from blip.config import Settings, load_settings
from blip.config.rounds import last_dataset, last_model, of_last_round
from blip.data.pairs import PairsDataset
from blip.inspection.verification import verify
from blip.stages import finetune, run_stage
from blip.stages.register import CANDIDATES
from blip.tracking.measured import from_json
from blip.tracking.registry import weights_digest
from tests.stages.conftest import ROOT
from tests.stages.rounds_run import FIRST, make_project

PARTS = ("captioner", "filter", "pretrained")


def start(folder: Path, rounds: int, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    """Run the stage in a process of its own."""
    mine = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "BLIP_WORKERS": "1", "TORCHDYNAMO_DISABLE": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.stages.rounds_run",
        str(folder),
        str(rounds),
        *filter(None, [kill_at]),
    ]
    environment = os.environ | mine
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def weights(folder: Path, number: int) -> dict[str, str]:
    return {p: contents(folder / f"models/rounds/{number}/{p}")["model.safetensors"] for p in PARTS}


def settings(rounds: int) -> Settings:
    return load_settings(ROOT / "params.yaml", overrides={"capfilt.rounds": rounds, "compute.device": "cpu"})


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the first round has run."""
    folder = tmp_path_factory.mktemp("begun") / "project"
    make_project(folder)
    return folder


@pytest.fixture(scope="module")
def thrice(begun: Path) -> Path:
    """A copy of it in which three rounds have run, undisturbed."""
    folder = begun.with_name("thrice")
    shutil.copytree(begun, folder)
    done = start(folder, 3)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_round_has_models_and_a_dataset_of_its_own(thrice: Path) -> None:
    models = [digest for number in (2, 3) for digest in weights(thrice, number).values()]
    assert len(set(models)) == 6
    member = contents(thrice / "models/rounds/2/filter/members/2")["model.safetensors"]
    assert member not in models
    datasets = [
        PairsDataset.open(thrice / "data/datasets" / d) for d in ("bootstrapped", "rounds/2", "rounds/3")
    ]
    assert len({dataset.digest for dataset in datasets}) == 3
    web, human = (PairsDataset.open(thrice / "data/datasets" / name) for name in ("web", "human"))
    for dataset in datasets[1:]:
        assert dataset.manifest.parents == [web.digest, human.digest], (
            "it is the original pool that is cleaned"
        )
        assert verify(dataset) == []
    for path in (thrice / "models/rounds/2/captioner.csv", thrice / "models/rounds/3/pretrained.csv"):
        assert path.read_text().count("\n") == 5
    assert list((thrice / "metrics/curves").iterdir()) == []
    assert list((thrice / "data/datasets").glob(".*")) == []


def test_the_figures_of_all_rounds_stand_side_by_side(thrice: Path) -> None:
    figures = json.loads((thrice / "metrics/rounds.json").read_text())
    exact = "captioner.validation.exact_match"
    assert figures[f"rounds.1.{exact}"] == FIRST["captioner"][exact]
    assert figures["rounds.1.filter.validation_auc"] == FIRST["filter"]["filter.validation_auc"]
    for number in (2, 3):
        for name in (
            exact, "filter.validation_auc", "capfilt.validation_auc", "capfilt.web_kept",
            "pretrained.validation.itc.i2t_r1"
        ):  # fmt: skip
            assert 0 <= figures[f"rounds.{number}.{name}"] <= 1
        audit = pq.read_table(thrice / f"data/datasets/rounds/{number}/audit.parquet")
        kept = [all(texts) for texts in audit["web_kept"].to_pylist()]
        assert figures[f"rounds.{number}.capfilt.web_kept"] == pytest.approx(sum(kept) / 20)
    assert of_last_round(figures)[exact] == figures[f"rounds.3.{exact}"]


def test_the_figures_of_a_round_say_that_they_are_of_its_models(thrice: Path) -> None:
    measured = from_json(json.loads((thrice / "metrics/rounds.json").read_text()), "").measured
    told = {
        "captioner": "validation.exact_match",
        "filter": "validation_auc",
        "pretrained": "validation.itc.i2t_r1",
    }
    for number, part in product((2, 3), PARTS):
        of_it = weights_digest(thrice / f"models/rounds/{number}/{part}")
        assert measured[f"rounds.{number}.{part}.{told[part]}"].weights == (of_it,)


def test_kill_9_anywhere_costs_only_what_was_at_work(begun: Path, thrice: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(begun, folder)
    work = folder / "data/datasets/.rounds.partial"
    ends = {
        "filter": [], "capfilt": ["2.captioner", "2.filter"], "pretrained": ["2.captioner", "2.filter", "2.capfilt"],
        "handover": ["2.captioner", "2.filter", "2.capfilt"],
        "figures": ["2.captioner", "2.filter", "2.capfilt", "2.pretrained"],
    }  # fmt: skip
    written: dict[str, int] = {}
    for point in ends:
        killed = start(folder, 2, point)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        said = killed.stdout
        for path in work.rglob("model.safetensors"):
            now = path.stat().st_mtime_ns
            assert written.setdefault(str(path.relative_to(work)), now) == now
        for output in ("models/rounds", "data/datasets/rounds"):  # as DVC does before it starts a stage
            shutil.rmtree(folder / output, ignore_errors=True)
        if point == "capfilt":
            assert "rounds.2.filter  resuming at step 2" in said
            assert "rounds.2.captioner  step" not in said
    folders = (*PARTS, "filter/members/2")
    assert set(written) == {f"models/2/{name}/model.safetensors" for name in folders}
    done = start(folder, 2)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "step" in line or "shard" in line] == []
    assert contents(folder / "data/datasets/rounds/2") == contents(thrice / "data/datasets/rounds/2")
    assert weights(folder, 2) == weights(thrice, 2)
    assert not work.exists()


def test_what_is_of_other_code_is_made_anew_or_measured_again(
    begun: Path, thrice: Path, tmp_path: Path
) -> None:
    """A dataset of other origins is; of a model whose origins are the same only the figures are."""
    folder = tmp_path / "edited"
    shutil.copytree(begun, folder)
    assert start(folder, 2, "handover").returncode == -signal.SIGKILL
    notes = folder / "data/datasets/.rounds.partial/figures"
    for part, changes in {
        "captioner": {"measured_by": "other code", "scores": {"captioner.validation.exact_match": 2.0}},
        "capfilt": {"made_of": "other code", "origins": {"code": "other"}},
    }.items():
        note = json.loads((notes / f"2.{part}.json").read_text())
        (notes / f"2.{part}.json").write_text(json.dumps(note | changes))
    done = start(folder, 2)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if "step" in line] == [] and any("shard" in line for line in said)
    now, then = (json.loads((made / "metrics/rounds.json").read_text()) for made in (folder, thrice))
    assert (
        now["rounds.2.captioner.validation.exact_match"] == then["rounds.2.captioner.validation.exact_match"]
    )
    assert contents(folder / "data/datasets/rounds/2") == contents(thrice / "data/datasets/rounds/2")
    assert weights(folder, 2) == weights(thrice, 2)


def test_other_settings_start_anew(begun: Path, tmp_path: Path) -> None:
    """What was finished with another model of the first round is of no use."""
    folder = tmp_path / "changed"
    shutil.copytree(begun, folder)
    assert start(folder, 2, "filter").returncode == -signal.SIGKILL
    shutil.copytree(folder / "models/vqa", folder / "models/pretrain_bootstrapped", dirs_exist_ok=True)
    done = start(folder, 2, "filter")
    assert done.returncode == -signal.SIGKILL
    assert "rounds.2.captioner  step 4/4" in done.stdout


def test_those_of_an_earlier_version_go_on_where_what_is_new_is_not_set(begun: Path, tmp_path: Path) -> None:
    folder = tmp_path / "updated"
    shutil.copytree(begun, folder)
    assert start(folder, 2, "filter").returncode == -signal.SIGKILL
    work = folder / "data/datasets/.rounds.partial"
    plan, note = (json.loads((work / name).read_text()) for name in ("plan.json", "figures/2.captioner.json"))
    del plan["capfilt"]["noise"], plan["runs"][0]["run"]["candidates"], note["origins"]["run"]["candidates"]
    (work / "plan.json").write_text(json.dumps(plan))
    (work / "figures/2.captioner.json").write_text(json.dumps(note | {"made_of": "the same, without it"}))
    done = start(folder, 2, "capfilt")
    assert done.returncode == -signal.SIGKILL
    assert "rounds.2.captioner  step" not in done.stdout and "is of another plan" not in done.stderr


def test_one_round_leaves_empty_folders(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(begun, tmp_path / "once")
    monkeypatch.chdir(tmp_path / "once")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    figures = run_stage("rounds", settings(1))
    assert figures.pop("seconds") < 2
    assert figures == {
        "rounds.1.captioner.validation.exact_match": 0.25,
        "rounds.1.filter.validation_auc": 0.75,
    }
    for folder in ("models/rounds", "data/datasets/rounds"):
        assert list(Path(folder).iterdir()) == []


def test_what_follows_reads_the_last_round() -> None:
    once, thrice = settings(1), settings(3)
    assert finetune.job(once, "retrieval").start == Path("models/pretrain_bootstrapped")
    assert finetune.job(thrice, "retrieval").start == Path("models/rounds/3/pretrained")
    assert finetune.job(once, "retrieval").run == once.finetune.retrieval
    parts = [
        ("rounds/3" if name == "bootstrapped" else name, weight)
        for name, weight in once.finetune.retrieval.mixture
    ]
    assert finetune.job(thrice, "retrieval").run.mixture == parts
    assert [name for name, _ in parts] == ["human", "rounds/3", "web"]
    assert finetune.job(thrice, "vqa").run == thrice.finetune.vqa
    assert (last_dataset(once), last_model("filter", once)) == ("bootstrapped", "filter")
    assert last_model("vqa", thrice) == "vqa"
    last = {name: candidate.of_last_round(thrice) for name, candidate in CANDIDATES.items()}
    assert {name for name in last if last[name].stage == "rounds"} == {
        "blip-base",
        "blip-captioner",
        "blip-filter",
    }
    assert last["blip-base"].directory == Path("models/rounds/3/pretrained")
    assert last["blip-vqa"] == CANDIDATES["blip-vqa"]


def test_weights_of_a_mixture_go_with_the_last_round() -> None:
    changes = {"capfilt.rounds": 2, "finetune.retrieval.data": {"human": 2.0, "bootstrapped": 0.5}}
    mixed = load_settings(ROOT / "params.yaml", overrides=changes)
    assert finetune.job(mixed, "retrieval").run.data == {"human": 2.0, "rounds/2": 0.5}


def test_of_one_round_the_figures_are_as_they_were() -> None:
    figures = {"filter.roc_auc": 0.9, "rounds.1.filter.roc_auc": 0.9, "vqa.accuracy": 0.8}
    assert of_last_round(figures) == figures
    assert of_last_round({"filter.roc_auc": 0.9}) == {"filter.roc_auc": 0.9}

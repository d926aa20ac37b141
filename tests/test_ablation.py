"""Every arm trained and measured at toy size; means and intervals against counting by hand."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from blip import ablation
from blip.ablation import ARMS, Interval, ablate, draw, gains, note, table, write_report
from blip.capfilt.bootstrap import bootstrap
from blip.capfilt.inputs import Models, Order, Pairs
from blip.config import CapFilt, Settings, load_settings
from blip.data.pairs import PairsDataset
from blip.data.text import train_tokenizer
from blip.errors import BadArguments, BlipError
from tests.stages.conftest import ROOT, TOY_MODEL, make_models, pictures, write

SMALL = {
    **TOY_MODEL,
    "pretrain_bootstrapped.training.batch_size": 8,
    "pretrain_bootstrapped.objective.queue": 16,
    "evaluate.captioning.beams": 1,
}
FIGURES = {"i2t_r1": 0.5, "t2i_r1": 0.25, "exact_match": 0.125}


def test_an_interval_is_that_of_student() -> None:
    values = [0.4, 0.5, 0.45, 0.55]
    low, high = stats.t.interval(0.95, 3, loc=0.475, scale=stats.sem(values))
    found = Interval.of(values)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert math.isinf(Interval.of([0.4]).half)
    assert (str(Interval.of([0.4])), str(Interval(0.4, 0.011))) == ("40.0", "40.0 ± 1.1")


def test_gains_are_paired_by_seed() -> None:
    noisy = {"0": FIGURES, "1": FIGURES | {"i2t_r1": 0.7}}
    better = {seed: figures | {"i2t_r1": figures["i2t_r1"] + 0.1} for seed, figures in noisy.items()}
    better["0"]["exact_match"] += 0.04
    results = {"noisy": noisy, "C+F": better}
    assert table(results)[2][1].startswith("70.0 ± ")
    assert gains(results) == [
        ("arm", "gain over", "image to text R@1", "text to image R@1", "captions, exact match"),
        ("C+F", "noisy", "10.0 ± 0.0", "0.0 ± 0.0", "2.0 ± 25.4"),
    ]
    assert "over 2 seeds of the pre-training" in note(results)
    assert len(draw({"noisy": noisy, "C+F": better}).axes) == 3


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project with a pool that CapFilt has been through, and models of toy size."""
    human, web = list(islice(pictures("human"), 12)), list(islice(pictures("validation"), 20))
    for name, samples in {"human": human, "web": web, "test": list(islice(pictures("test"), 12))}.items():
        write(tmp_path, name, samples)
    tokenizer = train_tokenizer([c.text for s in human + web for c in s.captions] * 2, 300)
    tokenizer.save_vocabulary(tmp_path / "data/datasets/vocabulary")
    make_models(tmp_path, tokenizer)
    monkeypatch.chdir(tmp_path)
    models = Models(Path("models/pretrain").resolve(), (Path("models/retrieval").resolve(),))
    sides = [Pairs(Path("data/datasets") / name) for name in ("web", "human")]
    how = CapFilt.model_validate({"min_tokens": 3, "threshold": {"keep": 0.6}})
    bootstrap(Order(sides[0], sides[1], models, how), Path("data/datasets/bootstrapped"))
    return load_settings(ROOT / "params.yaml", overrides=SMALL)


@pytest.fixture
def own_process_group() -> Iterator[None]:
    """Training in this process makes it a rank; what follows is to know nothing of it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def done_again(*_: object) -> dict[str, float]:
    pytest.fail("a finished run was done again")


@pytest.mark.slow
@pytest.mark.usefixtures("own_process_group")
def test_every_arm_is_trained_measured_and_kept(project: Settings) -> None:
    arms = [arm for arm in ARMS if arm != "truth"]
    results = ablate(project, arms, [7, 8], steps=2)
    assert {arm: list(seeds) for arm, seeds in results.items()} == {arm: ["7", "8"] for arm in arms}
    folder = write_report(results, 2)
    written = (folder / "table-2.md").read_text()
    assert written.count("\n") == len(arms) + 2 + 1 + 3 * (len(arms) - 1) + 2 + 2
    assert "| C+F | F | " in written
    assert (folder / "chart-2.png").read_bytes().startswith(b"\x89PNG")
    assert list(ablation.TRAINED.glob("*")) == []

    assert ablate(project, arms, [7, 8], steps=2, run=done_again) == results
    kept = json.loads((folder / "runs-2.json").read_text())
    assert kept["runs"] == results

    ran: list[tuple[str, int]] = []

    def noted(_: Settings, arm: str, seed: int, steps: int) -> dict[str, float]:
        ran.append((arm, seed))
        return FIGURES

    other = project.model_copy(update={"pretrain_bootstrapped": project.pretrain})
    ablate(other, ["noisy"], [7, 8], steps=2, run=noted)
    assert ran == [("noisy", 7), ("noisy", 8)], "runs of other settings do not count"


@pytest.mark.slow
@pytest.mark.usefixtures("own_process_group")
def test_an_arm_that_is_trained_and_not_measured_is_not_trained_again(
    project: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "measure", ended)
    with pytest.raises(KeyboardInterrupt):
        ablate(project, ["human"], [7], steps=2)
    capsys.readouterr()
    monkeypatch.setattr(ablation, "measure", lambda *_: FIGURES)
    assert ablate(project, ["human"], [7], steps=2) == {"human": {"7": FIGURES}}
    assert "ablation-human-7  resuming at step 2" in capsys.readouterr().out
    assert not list(Path("runs").glob("ablation-*"))


HOLD = (
    "import sys; from blip.ablation import LOCK, hold; hold(LOCK, '', ''); print('held', flush=True); input()"
)


def test_a_second_ablation_is_refused_and_touches_nothing(project: Settings) -> None:
    ablate(project, ["F"], [7], steps=2, run=lambda *_: FIGURES)
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        with pytest.raises(
            BlipError, match=rf"another process \(pid {first.pid} on .*\) runs an ablation here"
        ):
            ablate(project, ["C"], [7], steps=2, run=done_again)
        assert Path("data/datasets/ablation/F").is_dir()
        first.communicate()
    assert list(ablate(project, ["C"], [7], steps=2, run=lambda *_: FIGURES)) == ["C"]


def test_repeated_has_as_many_web_texts_as_capfilt_keeps(project: Settings) -> None:
    kept = sum(len(s.captions) for s in PairsDataset.open("data/datasets/bootstrapped").samples())
    human = sum(len(s.captions) for s in PairsDataset.open("data/datasets/human").samples())
    assert ablation.mixture(project, "repeated") == {"human": 1.0, "web": max((kept - human) / 20, 1.0)}


def test_a_caption_that_repeats_another_text_of_its_picture_gives_repeated_no_text(project: Settings) -> None:
    path = Path("data/datasets/bootstrapped/audit.parquet")
    table = pq.read_table(path)
    texts = {"web_kept": [True], "synthetic_kept": [True, True], "kept": ["a red apple", "an apple"]}
    rows = [row | texts for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    assert ablation.mixture(project, "repeated") == {"human": 1.0, "web": 2.0}


def test_an_arm_that_is_none_is_named(project: Settings) -> None:
    with pytest.raises(
        BadArguments, match=r"no arm D, F@2; the arms are: human, noisy, repeated, F, C, C\+F, truth"
    ):
        ablate(project, ["noisy", "D", "F@2", "C+F@2"], [0], steps=1)


def test_runs_of_another_test_set_or_other_code_do_not_count(
    project: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def run(settings: Settings, arm: str, seed: int, steps: int) -> dict[str, float]:
        ran.append(seed)
        return FIGURES

    def again() -> int:
        ran.clear()
        ablate(project, ["noisy"], [7], steps=2, run=run)
        return len(ran)

    assert (again(), again()) == (1, 0)
    validated = tmp_path / "data/datasets/validated"
    validated.mkdir()
    (validated / "test.parquet").write_bytes(b"another list of what is left out")
    assert (again(), again()) == (1, 0)
    shutil.rmtree(tmp_path / "data/datasets/test")
    write(tmp_path, "test", list(islice(pictures("test"), 11)))
    assert (again(), again()) == (1, 0)
    monkeypatch.setattr(ablation, "code_digest", lambda *packages: "other code")
    assert (again(), again()) == (1, 0)

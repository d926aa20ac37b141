"""Does CapFilt help, and which part of it? Every arm is pre-trained for equal steps with several seeds and measured.

    blip ablate --steps 800 --seeds 3            # in the project's folder, after `make demo`

Each finished run is kept in reports/ablation/runs-STEPS.json: an ended ablation goes on. One runs at a time, as all
share the datasets of the arms. Intervals are over the seeds of the pre-training, those of gains of differences paired
by seed (Student's t, 95%); captioner, filter and the dataset that they made are the same in all.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from blip.atomic import atomic_path, write_json
from blip.capfilt.arms import CHOICES, is_arm, write_arms
from blip.capfilt.bootstrap import AUDIT_FILE
from blip.capfilt.inputs import Pairs
from blip.config import Settings
from blip.config.places import DATASETS, REPORTS, RUNS, VALIDATED, VOCABULARY
from blip.data.kept import code_digest, digest_of
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches
from blip.errors import BadArguments
from blip.lock import hold, let_go
from blip.model.api import Blip
from blip.stages.training import Job, start_weights, threads_of, train_here
from blip.tasks import captioning, retrieval
from blip.tasks.inputs import open_directory, read_samples
from blip.tracking.lineage import digest
from blip.training.loop import finish

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = REPORTS / "ablation"
TRAINED = RUNS / "ablation"
LOCK = RUNS / "ablation.lock"
FOLDER = "ablation"  # below data/datasets
WEB_ARMS = ("human", "noisy", "repeated")
ARMS = (*WEB_ARMS, *CHOICES)
AGAINST = ("noisy", "human", "F")  # arms that the others are held against
FIGURES = {
    "i2t_r1": "image to text R@1",
    "t2i_r1": "text to image R@1",
    "exact_match": "captions, exact match",
}

RunArm = Callable[[Settings, str, int, int], dict[str, float]]  # arm, seed, steps -> figures
Measured = dict[str, dict[str, float]]  # seed -> figures
Results = dict[str, Measured]  # by arm


@dataclass(frozen=True)
class Interval:
    """A mean and the half width of its 95% interval; infinite for a single value."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Of values that are drawn alike."""
        from scipy.stats import t

        mean = sum(values) / len(values)
        if len(values) < 2:
            return cls(mean, math.inf)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        return cls(mean, float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values)))

    def __str__(self) -> str:
        half = "" if math.isinf(self.half) else f" ± {100 * self.half:.1f}"
        return f"{100 * self.mean:.1f}{half}"


def run_arm(settings: Settings, arm: str, seed: int, steps: int) -> dict[str, float]:
    """Pre-train on an arm and measure the model on the test data."""
    changes = {"data": mixture(settings, arm), "steps": steps, "epochs": None, "candidates": 1}
    run = settings.pretrain_bootstrapped.model_copy(update=changes)
    seeded = settings.model_copy(update={"seed": seed})
    target = TRAINED / f"{arm}-{seed}"
    job = Job(_job(arm, seed), run, "pairs", None, target)
    torch.set_num_threads(threads_of(job.run, seeded))
    train_here(job, seeded)
    figures = measure(settings, open_directory(target, settings.compute))
    shutil.rmtree(target)
    return figures


def _job(arm: str, seed: int) -> str:
    """What the training of an arm is called, whose checkpoints stay until its figures are written."""
    return f"ablation-{arm}-{seed}"


def ablate(
    settings: Settings, arms: Sequence[str], seeds: Iterable[int], steps: int, run: RunArm = run_arm
) -> Results:
    """Train and measure what is not measured yet; returns all results for these arms and seeds.

    Raises:
        BadArguments: there is no such arm.
        BlipError: CapFilt has not run, or another process runs an ablation here.
    """
    if unknown := sorted(arm for arm in set(arms) - set(ARMS) if not is_arm(arm)):
        raise BadArguments(
            f"there is no arm {', '.join(unknown)}; the arms are: {', '.join(ARMS)}, and C@N and C+F@N of the first N "
            "captions of each picture"
        )
    hold(LOCK, str(REPORT), "runs an ablation here. Wait for it, or end it: what it has finished is kept")
    try:
        return _ablate(settings, arms, seeds, steps, run)
    finally:
        let_go(LOCK)


def _ablate(
    settings: Settings, arms: Sequence[str], seeds: Iterable[int], steps: int, run: RunArm
) -> Results:
    prepare(settings, [arm for arm in arms if is_arm(arm)])
    file = REPORT / f"runs-{steps}.json"
    made_of = _identity(settings)
    results = _read(file, made_of)
    for seed in seeds:
        for arm in arms:
            done = results.setdefault(arm, {})
            if str(seed) not in done:
                done[str(seed)] = run(settings, arm, seed, steps)
                write_json(file, {"of": made_of, "runs": results})
                finish(_job(arm, seed))
                told = ", ".join(f"{name} {100 * value:.1f}" for name, value in done[str(seed)].items())
                print(f"ablation  {arm}, seed {seed}: {told}", flush=True)
    return {arm: {str(seed): results[arm][str(seed)] for seed in seeds} for arm in arms}


def _identity(settings: Settings) -> dict[str, str]:
    """What results depend on beside arm, seed and steps: data, files, settings and code."""
    parts = (settings.model, settings.pretrain_bootstrapped, settings.evaluate, settings.compute)
    told = json.dumps([part.model_dump(mode="json") for part in parts])
    words = settings.ingest.vocabulary.file or VOCABULARY / "vocab.txt"
    model = settings.model
    named = [] if model.starts_whole else [Path(name) for name in (model.start, model.text_start) if name]
    starts = [start_weights(model)] if model.starts_whole else named
    return {
        "bootstrapped": PairsDataset.open(DATASETS / "bootstrapped").digest,
        "datasets": digest_of(_datasets(settings)),
        "files": digest_of(digest(path) for path in (Path(words), *starts)),
        "settings": sha256(told.encode()).hexdigest(),
        "code": code_digest("capfilt", "data", "model", "tasks", "training"),
    }


def _datasets(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """What is trained and measured on: its name, its digest, and that of the samples that are left out of it."""
    how, task = settings.capfilt, settings.evaluate
    for name in (how.human, how.web, task.retrieval.data, task.captioning.data):
        yield name, PairsDataset.open(DATASETS / name).digest, digest(VALIDATED / f"{name}.parquet")


def _read(file: Path, made_of: dict[str, str]) -> Results:
    """Results of an earlier run; none if it was of other data, settings or code."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["of"] == made_of:
        return found["runs"]
    print(f"{file} is of other data, settings or code; all runs begin anew", flush=True)
    return {}


def prepare(settings: Settings, arms: Sequence[str]) -> None:
    """Write the datasets of the arms that CapFilt's audit makes."""
    how = settings.capfilt
    bootstrapped = PairsDataset.open(DATASETS / "bootstrapped")
    folder = DATASETS / FOLDER
    made = folder / "of.json"
    if made.is_file() and json.loads(made.read_text()) == [bootstrapped.digest, list(arms)]:
        return
    shutil.rmtree(folder, ignore_errors=True)
    web = Pairs(DATASETS / how.web, VALIDATED / f"{how.web}.parquet")
    write_arms(web, bootstrapped.path / AUDIT_FILE, folder, arms, settings.ingest.samples_per_shard)
    write_json(made, [bootstrapped.digest, list(arms)])


def mixture(settings: Settings, arm: str) -> dict[str, float]:
    """The datasets of an arm. `repeated` has as many web texts an epoch as CapFilt keeps texts of the pool."""
    how = settings.capfilt
    if arm == "human":
        return {how.human: 1.0}
    if arm == "noisy":
        return {how.human: 1.0, how.web: 1.0}
    if arm == "repeated":
        web = len(PairsDataset.open(DATASETS / how.web))
        return {how.human: 1.0, how.web: max(_kept_texts() / web, 1.0)}
    return {how.human: 1.0, f"{FOLDER}/{arm}": 1.0}


def _kept_texts() -> int:
    """What the bootstrapped dataset has of the pool: a text that two of a picture say is in it once."""
    kept = read_batches(DATASETS / "bootstrapped" / AUDIT_FILE, ["kept"])
    return sum(len(batch.column("kept").flatten()) for batch in kept)


def measure(settings: Settings, model: Blip) -> dict[str, float]:
    """Retrieval and captions on the test data, zero-shot."""
    how, batch = settings.evaluate, settings.evaluate.batch_size
    found = retrieval.recalls(
        model,
        read_samples(how.retrieval.data),
        batch_size=batch,
        rerank_size=0,
    )
    write = partial(model.caption, **how.captioning.decoding)
    samples, normal = read_samples(how.captioning.data), model.tokenizer.normal
    outcome = captioning.evaluate(write, samples, batch_size=batch, seed=0, normal=normal)
    return {
        "i2t_r1": found["itc"]["i2t_r1"],
        "t2i_r1": found["itc"]["t2i_r1"],
        "exact_match": outcome.metrics["captioning.exact_match"],
    }


def table(results: Results) -> list[tuple[str, ...]]:
    """Header and a row an arm: means with intervals."""
    rows = [("arm", *FIGURES.values())]
    for arm, seeds in results.items():
        rows.append((arm, *(str(Interval.of([run[name] for run in seeds.values()])) for name in FIGURES)))
    return rows


def gains(results: Results) -> list[tuple[str, ...]]:
    """Header and a row for every arm and each of `AGAINST`: the gain in every figure."""
    rows = [("arm", "gain over", *FIGURES.values())]
    for base in (base for base in AGAINST if base in results):
        rows += [
            (arm, base, *(str(_gain(results[arm], results[base], name)) for name in FIGURES))
            for arm in results
            if arm != base
        ]
    return rows


def _gain(after: Measured, before: Measured, figure: str) -> Interval:
    """Of a figure, paired by seed."""
    return Interval.of([found[figure] - before[seed][figure] for seed, found in after.items()])


def note(results: Results) -> str:
    """What the intervals are of."""
    seeds = len(next(iter(results.values())))
    return (
        f"Means in % with 95% intervals over {seeds} seed{'' if seeds == 1 else 's'} of the pre-training. Captioner, "
        "filter and what they made of the pool are the same in all: no interval covers what others would give."
    )


def draw(results: Results) -> "Figure":
    """Every figure of every arm with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    places = range(len(results))
    for panel, (name, title) in zip(figure.subplots(1, len(FIGURES)), FIGURES.items(), strict=True):
        found = [Interval.of([figures[name] for figures in seeds.values()]) for seeds in results.values()]
        halves = [0 if math.isinf(one.half) else 100 * one.half for one in found]
        panel.barh(places, [100 * one.mean for one in found], xerr=halves, color="#0c7c6e", ecolor="#172026")
        panel.set_yticks(places, list(results))
        panel.invert_yaxis()
        panel.set(title=title, xlabel="%", xlim=(0, None))
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def write_report(results: Results, steps: int) -> Path:
    """Write tables and chart; returns their folder."""
    parts = [_markdown(table(results)), _markdown(gains(results)), note(results)]
    with atomic_path(REPORT / f"table-{steps}.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    with atomic_path(REPORT / f"chart-{steps}.png") as temporary:
        draw(results).savefig(temporary, format="png", dpi=130)
    return REPORT


def _markdown(rows: list[tuple[str, ...]]) -> str:
    lines = [" | ".join(("", *row, "")).strip() for row in rows]
    return "\n".join([lines[0], "|" + "-|" * len(rows[0]), *lines[1:]])

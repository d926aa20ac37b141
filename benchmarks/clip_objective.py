"""CLIP's objective against BLIP's three: the same network, data, steps and seeds.

    python benchmarks/clip_objective.py PROJECT --steps 800 --seeds 3

PROJECT is a folder in which `make demo` is done; nothing in it is changed. Each run lies in a folder of its own below
--work: the stage pretrain with PROJECT's settings and data, but for the objective, the seed and the steps. What is
finished stays when it is ended; for other settings or code name another --work. All are measured on the test style as
`blip compare` does it, zero-shot.

Arms: `BLIP` is the demo's objective (ITC, ITM, LM); `ITC` its contrastive part alone, with momentum twin, queue and
soft targets; `CLIP` contrasts the pairs of a batch alone, with one-hot targets, by the network's own features; those
that a query is compared with have no gradient, as in ITC. Prints Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blip.ablation import Interval
from blip.config import Settings, load_settings
from blip.config.places import DATASETS, MODELS, VALIDATED
from blip.data.pairs import PairsDataset, excluded_keys
from blip.tasks.comparison import How, evaluate
from blip.tasks.inputs import labels_of, open_directory

SHARED = ("params.yaml", "infra/recipes", "data/sample", "data/datasets")
ALONE = {"itm": 0.0, "lm": 0.0}
ARMS: dict[str, dict[str, Any]] = {
    "BLIP": {},
    "ITC": ALONE,
    "CLIP": {**ALONE, "queue": 0, "alpha": 0.0, "momentum": 0.0},
}
MEASURES = {
    "itc.i2t_r1": "image to text R@1",
    "itc.t2i_r1": "text to image R@1",
    "itc.top1": "classification top 1",
    "itm.i2t_r1": "re-ranked, image to text R@1",
    "itm.t2i_r1": "re-ranked, text to image R@1",
}
Figures = dict[str, float]
Results = dict[str, list[Figures]]  # by arm, a seed each


def changes_of(arm: str, seed: int, steps: int, data: Sequence[str]) -> dict[str, Any]:
    """The settings of a run that are not the demo's."""
    objective = {f"pretrain.objective.{name}": value for name, value in ARMS[arm].items()}
    mixture = {"pretrain.data": json.dumps(list(data))} if data else {}
    return {"seed": seed, "pretrain.steps": steps, **objective, **mixture}


def do(project: Path, folder: Path, changes: dict[str, Any]) -> None:
    """Pre-train in a folder of its own, unless that is done."""
    if (folder / "metrics/pretrain.json").is_file():
        return
    for name in SHARED:
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((project / name).resolve())
    sets = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    print(" ".join(["blip stage pretrain", *sets]), file=sys.stderr, flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "blip", "stage", "pretrain", *sets]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)


def measure(project: Path, folder: Path, settings: Settings) -> Figures:
    """Retrieval and classification on the test style; re-ranked where the matching head has been trained."""
    task, classes = settings.evaluate.retrieval, settings.evaluate.classification
    dataset = PairsDataset.open(project / DATASETS / task.data)
    samples = dataset.samples(excluded_keys(project / VALIDATED, task.data))
    model = open_directory(folder / MODELS / "pretrain", settings.compute)
    rerank = task.rerank if model.can_match else 0
    how = How(settings.evaluate.batch_size, rerank, task.rerank_by, classes.templates)
    found = evaluate(model, samples, how, labels_of(dataset))
    return {
        f"{head}.{measure}": float(hits.double().mean())
        for head in found.heads
        for measure, hits in found.hits(head).items()
    }


def table(results: Results) -> list[list[str]]:
    """Means with intervals over the seeds, then what each arm has more than the first, paired by seed."""
    first = next(iter(results))
    rows = [["", *MEASURES.values()], ["-"] * (1 + len(MEASURES))]
    for arm, seeds in results.items():
        rows.append([arm, *(_interval(seeds, name) for name in MEASURES)])
    for arm, seeds in results.items():
        if arm != first:
            pairs = [
                {name: value - own[name] for name, value in found.items()}
                for found, own in zip(seeds, results[first], strict=True)
            ]
            rows.append([f"{arm} less {first}", *(_interval(pairs, name) for name in MEASURES)])
    return rows


def _interval(seeds: list[Figures], name: str) -> str:
    return str(Interval.of([found[name] for found in seeds])) if name in seeds[0] else ""


def main() -> None:
    """Do all runs and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--work", type=Path, default=Path("clip-objective"))
    parser.add_argument(
        "--arm", nargs="+", choices=ARMS, default=list(ARMS), help="the first is held against"
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3, help="1 to this number")
    parser.add_argument(
        "--data", nargs="*", default=[], help="datasets; those of pretrain when none is given"
    )
    how = parser.parse_args()
    project, settings = how.project.resolve(), load_settings(how.project / "params.yaml")
    results: Results = {arm: [] for arm in how.arm}
    for seed in range(1, how.seeds + 1):
        for arm in how.arm:
            folder = how.work.resolve() / "-".join([arm, str(seed), str(how.steps), *how.data])
            do(project, folder, changes_of(arm, seed, how.steps, how.data))
            results[arm].append(measure(project, folder, settings))
    for row in table(results):
        print(f"| {' | '.join(row)} |")
    print(f"\nIn %, means with 95% intervals over {how.seeds} seeds of {how.steps} steps.")


if __name__ == "__main__":
    main()

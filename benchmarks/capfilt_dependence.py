"""On what it depends that synthetic captions pay: the pool's noise, and the captioner.

    python benchmarks/capfilt_dependence.py PROJECT --noise 0.25 0.5 0.75 --captioner 30 100 300 --steps 400 --seeds 3

PROJECT is a folder in which `make demo` is done; nothing in it is changed. Each case lies in a folder of its own
(--work). With --noise its pool has that share of wrong texts, `capfilt.noise` says so, and pre-training, captioner and
filter are done anew on it: models of the demo have read the texts that were exchanged. With --captioner the pool is the
demo's, and so are pre-training and filter; its captioner is fine-tuned for that many steps. All other settings are the
demo's. CapFilt cleans the pool, and `blip ablate` pre-trains on what it makes, as noisy, F and C+F. Wrong texts become
right ones, or right ones wrong texts of other pictures, drawn with a fixed seed. What is finished stays when it is
ended. Prints Markdown.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from blip.ablation import Interval
from blip.config import load_settings

POOL = Path("data/sample/web")
SHARED = ("params.yaml", "infra/recipes", "data/sample")
OF_THE_POOL = ("models/pretrain", "models/filter")  # for the cases whose pool is the demo's
DATASETS = "data/datasets"
Row = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A pool with a share of wrong texts and models of its own, or the demo's with a captioner of so many steps."""

    noise: float | None = None
    captioner: int | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"captioner-{self.captioner}" if self.captioner else f"noise-{self.noise}"

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that are not the demo's."""
        if self.noise is not None:
            return {"ingest.datasets.web.source": "pool", "capfilt.noise": self.noise}
        return {"captioner.steps": self.captioner}

    @property
    def stages(self) -> tuple[str, ...]:
        """What is done anew up to the bootstrapped dataset: all that has read the pool, or the captioner."""
        if self.noise is not None:
            return ("ingest", "validate", "pretrain", "captioner", "filter", "capfilt")
        return ("captioner", "capfilt")


def with_noise(rows: list[Row], share: float, random: Random) -> list[Row]:
    """The rows of a truth.csv with a text each, of which a share is wrong."""
    wrong = [row for row in rows if row["matched"] == "0"]
    right = [row for row in rows if row["matched"] == "1"]
    change = round(share * len(rows)) - len(wrong)
    if change <= 0:
        for row in random.sample(wrong, -change):
            row.update(caption=row["caption_true"], matched="1", noise="")
        return rows
    for row in random.sample(right, change):
        other = random.choice([one for one in wrong if one["caption"] != row["caption_true"]])
        row.update(caption=other["caption"], matched="0", noise=other["noise"])
    return rows


def write_pool(source: Path, target: Path, share: float) -> None:
    """The web pictures of the sample with texts of which a share is wrong."""
    captions = {row["image"]: row["caption"] for row in read(source / "captions.csv")}
    rows = [{**row, "caption": captions[row["image"]]} for row in read(source / "truth.csv")]
    columns = list(read(source / "truth.csv")[0])
    rows = with_noise(rows, share, Random(0))
    target.mkdir(parents=True)
    (target / "images.tar").symlink_to(source.resolve() / "images.tar")
    write(target / "captions.csv", ["image", "caption"], rows)
    write(target / "truth.csv", columns, rows)


def read(path: Path) -> list[Row]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def write(path: Path, columns: list[str], rows: list[Row]) -> None:
    """Some columns of rows as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def do(case: Case, project: Path, folder: Path, steps: int, seeds: int) -> None:
    """Clean the pool of a case and pre-train on what comes of it, as far as it is not done."""
    changes = case.changes
    cleaned = folder / "metrics/capfilt.json"
    if not cleaned.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        prepare(case, project, folder)
        for stage in case.stages:
            blip(folder, ["stage", stage], changes)
    arms = [part for arm in ("noisy", "F", "C+F") for part in ("--arm", arm)]
    blip(folder, ["ablate", *arms, "--steps", str(steps), "--seeds", str(seeds)], changes)


def prepare(case: Case, project: Path, folder: Path) -> None:
    """A project like another: datasets are copied, for a case writes some of them, the rest is linked."""
    for name in (*SHARED, *(() if case.noise is not None else OF_THE_POOL)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((project / name).resolve())
    shutil.copytree(project / DATASETS, folder / DATASETS)
    shutil.rmtree(folder / DATASETS / "bootstrapped", ignore_errors=True)
    if case.noise is not None:
        write_pool(project / POOL, folder / "pool", case.noise)


def blip(folder: Path, words: list[str], changes: dict[str, Any]) -> None:
    """Run a command of the package in a folder, with changed settings."""
    sets = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "blip", *words, *sets]
    print(" ".join(["blip", *words, *sets]), file=sys.stderr, flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)


def row_of(case: Case, folder: Path, steps: int) -> list[str]:
    """What became of a case."""
    runs = json.loads((folder / f"reports/ablation/runs-{steps}.json").read_text(encoding="utf-8"))["runs"]
    found = json.loads((folder / "metrics/capfilt.json").read_text(encoding="utf-8"))
    truth = read(folder / ("pool" if case.noise is not None else POOL) / "truth.csv")
    wrong = sum(row["matched"] == "0" for row in truth) / len(truth)
    captioner = case.captioner or load_settings(folder / "params.yaml").captioner.steps
    seeds = list(runs["C+F"])

    def gain(base: str, name: str) -> str:
        return str(Interval.of([runs["C+F"][seed][name] - runs[base][seed][name] for seed in seeds]))

    def share(name: str) -> str:
        return f"{found[name]:.0%}" if name in found else "-"

    return [
        f"{wrong:.0%}",
        f"{captioner}",
        f"{share('filter.precision')}, {share('filter.recall')}",
        f"{share('capfilt.synthetic_right')}, {share('capfilt.synthetic_right_kept')}",
        share("capfilt.rescued"),
        *(str(Interval.of([runs[arm][seed]["i2t_r1"] for seed in seeds])) for arm in ("noisy", "F", "C+F")),
        gain("F", "i2t_r1"),
        gain("F", "exact_match"),
    ]


COLUMNS = (
    "wrong texts",
    "captioner's steps",
    "filter's precision, recall",
    "synthetic right, right of the kept",
    "rescued",
    "noisy, R@1",
    "F, R@1",
    "C+F, R@1",
    "C+F over F, R@1",
    "C+F over F, captions",
)


def main() -> None:
    """Do all cases and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--work", type=Path, default=Path("capfilt-dependence"))
    parser.add_argument("--noise", type=float, nargs="*", default=[0.25, 0.5, 0.75])
    parser.add_argument("--captioner", type=int, nargs="*", default=[30, 100])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    how = parser.parse_args()
    cases = [*(Case(noise=share) for share in how.noise), *(Case(captioner=steps) for steps in how.captioner)]
    rows = []
    for case in cases:
        folder = how.work.resolve() / case.name
        do(case, how.project.resolve(), folder, how.steps, how.seeds)
        rows.append(row_of(case, folder, how.steps))
    for row in (COLUMNS, ["-"] * len(COLUMNS), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()

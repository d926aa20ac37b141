"""Kill a training run with all its processes, again and again, and compare its weights with an undisturbed run's.

    python benchmarks/kill_drill.py --kills 20 --ranks 2

A run of a few steps on real ranks, checkpoints, loader and export (tests/training/tiny_run.py). Kills are SIGKILL to
the process group: after a random time, or as soon as a checkpoint or the export is being written, which are too short
to be met by chance. Ends with a table and exit code 1 if the weights or the curve differ.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.training.ranks import Ranks, finish
from tests.training.tiny_run import write_dataset

UNFINISHED = ("runs/tiny/step-*/", ".model.*.tmp")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--behind", action="store_true", help="checkpoints are written by a thread")
    options = parser.parse_args()
    changes = {"training": {"checkpoint_every": 2, "batch_size": 4, "async_checkpoint": options.behind}}
    with tempfile.TemporaryDirectory() as folder:
        return drill(Path(folder), options.kills, options.steps, options.ranks, options.seed, changes)


def drill(folder: Path, kills: int, steps: int, ranks: int, seed: int, changes: Mapping[str, Any]) -> int:
    """Both runs; prints a row for every life and returns the exit code."""
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    for place in (undisturbed, killed):
        place.mkdir()
        write_dataset(place / "data")
    began = time.monotonic()
    expected = finish(undisturbed, steps, ranks, changes)
    length, rng = time.monotonic() - began, Random(seed)
    print(f"an undisturbed run of {steps} steps on {ranks} rank(s) takes {length:.1f} s", flush=True)
    print("kill  planned     met         step  seconds", flush=True)
    for number in range(1, kills + 1):
        exports = number > kills - max(kills // 10, 1)  # the last, as a run that is exported is at its end
        plan = "export" if exports else rng.choice(("any moment", "checkpoint"))
        before, began = unfinished(killed), time.monotonic()
        life, moment = Ranks(killed, steps, ranks, changes), began + rng.uniform(0, length / 3)
        while not due(plan, unfinished(killed) - before, moment) and None in life.codes():
            time.sleep(0.001)
        met = where(unfinished(killed) - before, killed)
        life.kill()
        seconds = time.monotonic() - began
        print(f"{number:>4}  {plan:<10}  {met:<10}  {last_step(killed):>4}  {seconds:7.1f}", flush=True)
    found = finish(killed, steps, ranks, changes)
    same = {"weights": found == expected, "curve": losses(killed) == losses(undisturbed)}
    print(
        ", ".join(f"{name} {'the same' if equal else 'DIFFER'}" for name, equal in same.items()), flush=True
    )
    return 0 if all(same.values()) else 1


def due(plan: str, new: set[str], moment: float) -> bool:
    """Whether it is time to kill, by what this life has begun to write."""
    if plan == "export":
        return any(name.startswith(".model") for name in new)
    if plan == "checkpoint":
        return time.monotonic() >= moment and any(name.startswith("step") for name in new)
    return time.monotonic() >= moment


def where(new: set[str], folder: Path) -> str:
    """What the run is at, as far as its files tell."""
    if (folder / "final.json").is_file():
        return "finished"
    kinds = {name.split("-")[0] for name in new}
    return (
        "export"
        if any(kind.startswith(".model") for kind in kinds)
        else "checkpoint"
        if kinds
        else "start, step"
    )


def unfinished(folder: Path) -> set[str]:
    """Checkpoints without a marker and models under a temporary name."""
    found = [path for pattern in UNFINISHED for path in folder.glob(pattern)]
    return {path.name for path in found if not (path / "complete").is_file()}


def last_step(folder: Path) -> int:
    """The newest step of a complete checkpoint."""
    return max((int(path.parent.name[5:]) for path in folder.glob("runs/tiny/step-*/complete")), default=0)


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "metrics/curves/tiny.csv").open(encoding="utf-8") as handle:
        return [(row["step"], row["loss"]) for row in csv.DictReader(handle)]


if __name__ == "__main__":
    sys.exit(main())

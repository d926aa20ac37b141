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

STEPS = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--behind", action="store_true", help="checkpoints are written by a thread")
    options = parser.parse_args()
    changes = {"training": {"checkpoint_every": 2, "batch_size": 4, "async_checkpoint": options.behind}}
    with tempfile.TemporaryDirectory() as folder:
        return drill(Path(folder), options.kills, options.ranks, options.seed, changes)


def drill(folder: Path, kills: int, ranks: int, seed: int, changes: Mapping[str, Any]) -> int:
    """Both runs; prints a row for every life and returns the exit code."""
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    for place in (undisturbed, killed):
        place.mkdir()
        write_dataset(place / "data")
    began = time.monotonic()
    expected = finish(undisturbed, STEPS, ranks, changes)
    length, rng = time.monotonic() - began, Random(seed)
    print(f"an undisturbed run of {STEPS} steps on {ranks} rank(s) takes {length:.1f} s", flush=True)
    print("kill  planned     met         step  seconds", flush=True)
    done = 0
    while done < kills:
        plan = rng.choice(("any moment", "any moment", "checkpoint", "export"))
        (killed / "final.json").unlink(missing_ok=True)
        before = half_written(killed)
        life, began = Ranks(killed, STEPS, ranks, changes), time.monotonic()
        moment = began + rng.uniform(0, length)
        while not due(plan, killed, moment, before) and None in [
            process.poll() for process in life.processes
        ]:
            time.sleep(0.001)
        met = where(killed, before)
        life.kill()
        done += 1
        print(
            f"{done:>4}  {plan:<10}  {met:<10}  {last_step(killed):>4}  {time.monotonic() - began:.1f}",
            flush=True,
        )
    (killed / "final.json").unlink(missing_ok=True)
    found = finish(killed, STEPS, ranks, changes)
    same = {"weights": found == expected, "curve": losses(killed) == losses(undisturbed)}
    print(
        ", ".join(f"{name} {'the same' if equal else 'DIFFER'}" for name, equal in same.items()), flush=True
    )
    return 0 if all(same.values()) else 1


def due(plan: str, folder: Path, moment: float, before: set[Path]) -> bool:
    """Whether it is time to kill."""
    if plan == "checkpoint":
        return bool(half_written(folder) - before)
    if plan == "export":
        return bool(list(folder.glob(".model.*.tmp")))
    return time.monotonic() >= moment


def where(folder: Path, before: set[Path]) -> str:
    """What the run is at, as far as its files tell."""
    if half_written(folder) - before:
        return "checkpoint"
    if list(folder.glob(".model.*.tmp")):
        return "export"
    return "finished" if (folder / "final.json").is_file() else "start, step"


def half_written(folder: Path) -> set[Path]:
    """Checkpoints that have no marker yet, or never got one."""
    return {path for path in folder.glob("runs/tiny/step-*") if not (path / "complete").is_file()}


def last_step(folder: Path) -> int:
    """The newest step of a complete checkpoint."""
    return max((int(path.parent.name[5:]) for path in folder.glob("runs/tiny/step-*/complete")), default=0)


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "metrics/curves/tiny.csv").open(encoding="utf-8") as handle:
        return [(row["step"], row["loss"]) for row in csv.DictReader(handle)]


if __name__ == "__main__":
    sys.exit(main())

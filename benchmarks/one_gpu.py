"""The recipe `one-gpu-14m` on one GPU: shards of 256 px JPEGs, the real loader, the real trainer, for some minutes.

    python -m benchmarks.one_gpu                  # four minutes; on 80 GB or more, with 16 cores
    python -m benchmarks.one_gpu --batch 960      # of a forward, in place of the recipe's 480

It runs what the stage `pretrain` runs in its process, but for MLflow: pictures are decoded, cropped and augmented by
the recipe's workers, the step is the recipe's, with momentum twin, queue and optimiser. Pictures are soft patches with
grain, of a photograph's size, so nothing is learnt; captions are as long as COCO's. Prints what was sustained from the
first minute on (compilation and warm-up left out), the wait for data, and memory measured beside reckoned. Needs
deepspeed, as the trainer does.
"""

import argparse
import csv
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from pathlib import Path

import torch

from blip.bench.inputs import MEAN_TOKENS, SPREAD
from blip.bench.loader import LONG_SIDE, SHORT_SIDE, picture
from blip.config import Settings, load_settings
from blip.config.places import DATASETS, RUNS, VOCABULARY
from blip.data.pairs import Caption, PairsWriter, Sample
from blip.data.text import SPECIALS
from blip.doctor.plan import Plan
from blip.doctor.scaling import GPUS
from blip.stages.training import Job, train_here
from blip.training.loop import CURVE
from blip.training.memory import keep_freed_memory, peak_bytes

ROOT = Path(__file__).parents[1]
ENTRIES = 30_522  # of BERT's vocabulary; DEC and ENC come on top
PER_SHARD, LOG_EVERY = 512, 5
EPOCH, EPOCHS = 14e6, 20
GIB = 2**30


def word(number: int) -> str:
    """A word of letters that is an entry of the vocabulary."""
    letters = []
    for _ in range(4):
        number, letter = divmod(number, 26)
        letters.append(chr(97 + letter))
    return "".join(letters)


def write_vocabulary(path: Path) -> None:
    """As many entries as BERT has, each a word."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [word(number) for number in range(ENTRIES - len(SPECIALS))]
    path.write_text("\n".join([*SPECIALS, *words]) + "\n", encoding="utf-8")


def write_dataset(folder: Path, pictures: int) -> int:
    """Shards of pictures, each with a caption; returns the bytes of the pictures."""
    draw, total = random.Random(0), 0
    with (
        ProcessPoolExecutor() as pool,
        PairsWriter(folder, samples_per_shard=PER_SHARD, parents=[], parameters={}) as writer,
    ):
        for number, data in enumerate(pool.map(picture, range(pictures), chunksize=64)):
            words = max(round(draw.gauss(MEAN_TOKENS - 2, SPREAD)), 5)
            text = " ".join(word(draw.randrange(ENTRIES - len(SPECIALS))) for _ in range(words))
            width, height = (LONG_SIDE, SHORT_SIDE)[:: 1 if number % 2 else -1]
            writer.add(
                Sample(f"{number:07d}", data, "jpg", (Caption(text, "web"),), width=width, height=height)
            )
            total += len(data)
    return total


def settings_of(chosen: argparse.Namespace) -> Settings:
    """The recipe's, with what was chosen besides, over this dataset alone, from random weights."""
    params = load_settings(ROOT / "params.yaml", chosen.recipe)
    run, training, steps, device = params.pretrain, params.pretrain.training, chosen.steps, chosen.device
    own = {"batch_size": chosen.batch, "accumulate": chosen.accumulate, "workers": chosen.workers}
    changed = {"log_every": LOG_EVERY, "checkpoint_every": 10**9}
    changed |= {name: value for name, value in own.items() if value is not None}
    run = run.model_copy(
        update={
            "data": ["web"],
            "steps": steps,
            "epochs": None,
            "training": training.model_copy(update=changed),
        }
    )
    ingest = params.ingest.model_copy(
        update={"vocabulary": params.ingest.vocabulary.model_copy(update={"file": None})}
    )
    model = params.model.model_copy(update={"start": None})
    compute = params.compute.model_copy(update={"device": device})
    return params.model_copy(update={"pretrain": run, "model": model, "ingest": ingest, "compute": compute})


def sustained(curve: Path, pairs: int, warm_up: float) -> tuple[float, float, float]:
    """Pairs/s, the share of the time that was waited for data, and seconds, behind the warm-up."""
    with curve.open(encoding="utf-8") as handle:
        rows = [(float(row["pairs_per_second"]), float(row["data_wait"])) for row in csv.DictReader(handle)]
    spent, counted, waited, done = 0.0, 0.0, 0.0, 0
    for rate, wait in rows:
        seconds = pairs / rate
        if spent >= warm_up:
            counted, waited, done = counted + seconds, waited + wait * seconds, done + pairs
        spent += seconds
    if not counted:
        raise SystemExit(
            f"the run took {spent:.0f} s, all of it warm-up ({warm_up:.0f} s); give more --steps"
        )
    return done / counted, waited / counted, counted


def main() -> None:
    """Make the data, train, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="one-gpu-14m")
    parser.add_argument("--pictures", type=int, default=16_384)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, help="of a forward; the recipe's")
    parser.add_argument("--accumulate", type=int, help="forwards of a step; the recipe's")
    parser.add_argument("--workers", type=int, help="that make pictures; the recipe's")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds that do not count")
    chosen = parser.parse_args()
    settings = settings_of(chosen)
    job = Job("pretrain", settings.pretrain, "pairs", None, Path("models/pretrain"))
    training = job.run.training
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="blip-bench-") as folder, chdir(folder):
        start = time.monotonic()
        write_vocabulary(VOCABULARY / "vocab.txt")
        size = write_dataset(DATASETS / "web", chosen.pictures)
        made = time.monotonic() - start
        print(
            f"{chosen.pictures:,} pictures of {size / chosen.pictures / 1000:.0f} kB in {made:.0f} s",
            flush=True,
        )
        torch.set_num_threads(settings.compute.threads)
        train_here(job, settings)
        pairs = LOG_EVERY * training.batch_size * training.accumulate
        rate, wait, seconds = sustained(RUNS / job.name / CURVE, pairs, chosen.warm_up)
        needed = Plan("pretrain", job, settings, chosen.device, GPUS["h100"], 1).footprint
    print(
        f"\n{torch.cuda.get_device_name() if chosen.device == 'cuda' else 'CPU'}, torch {torch.__version__}"
    )
    print(f"{training.batch_size} x {training.accumulate} pairs a step, {training.workers} workers")
    print(f"{rate:,.0f} pairs/s over {seconds:.0f} s, {wait:.1%} of them waiting for data")
    print(f"14M pairs x 20 epochs: {EPOCH * EPOCHS / rate / 3600:.1f} hours")
    print(f"memory: {peak_bytes() / GIB:.1f} GiB at most, reckoned {needed.peak / GIB:.1f}")
    for name, value in needed.parts.items():
        print(f"  {name:20} {value / GIB:6.2f} GiB")


if __name__ == "__main__":
    main()

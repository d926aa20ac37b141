"""Peak memory of CapFilt over the number of shards: what of it grows with the dataset.

    python benchmarks/capfilt_memory.py [--shards 10 100 400] [--samples 16]

Each row is a `blip.capfilt` of small pictures by small models in a process of its own, on one worker; its memory is the
most that was resident (`ru_maxrss`). Printed is a Markdown table, with what a shard adds.
"""

import argparse
import json
import string
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from blip.data.pairs import Caption, PairsWriter, Sample
from blip.data.text import SPECIALS, Tokenizer
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import save_model
from blip.model.config_json import ModelCard
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

PIXELS = 32
CHILD = """
import json, resource, sys, time
from pathlib import Path
from blip.capfilt.bootstrap import bootstrap
from blip.capfilt.inputs import Models, Order, Pairs
from blip.config import CapFilt

web, target, captioner, judge, excluded = map(Path, sys.argv[1:])
start = time.perf_counter()
tally = bootstrap(Order(Pairs(web, excluded), None, Models(captioner, (judge,)), CapFilt(threshold=0.0)), target)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "seconds": time.perf_counter() - start, "images": tally.images}))
"""


def write_pool(folder: Path, shards: int, samples: int) -> None:
    """A dataset of so many shards, each of so many small pictures with a caption."""
    random = np.random.default_rng(0)
    with PairsWriter(folder, samples_per_shard=samples, parents=[], parameters={}) as writer:
        for number in range(shards * samples):
            pixels = random.integers(0, 255, (PIXELS, PIXELS, 3), dtype=np.uint8)
            media = cv2.imencode(".jpg", pixels)[1].tobytes()
            caption = Caption(f"picture number {number} of a red chair", "web")
            writer.add(
                Sample(f"{number:09d}", media, "jpg", (caption,), width=PIXELS, height=PIXELS), phash=number
            )


def write_model(folder: Path, seed: int) -> None:
    """A model of two narrow layers with random weights."""
    torch.manual_seed(seed)
    letters = string.ascii_lowercase + string.digits
    tokenizer = Tokenizer([*SPECIALS, *letters, *(f"##{letter}" for letter in letters)])
    vision = VisionConfig(PIXELS, 16, 32, 2, 2)
    text = TextConfig(len(tokenizer), 32, 2, 2, context_width=32)
    save_model(BlipNetwork(BlipConfig(vision, text, projection=16)), tokenizer, folder, ModelCard())


def measured(folder: Path, shards: int, samples: int) -> dict[str, float]:
    """Peak bytes, seconds and images of a run over so many shards."""
    web, target = folder / f"web-{shards}", folder / f"out-{shards}"
    write_pool(web, shards, samples)
    paths = (web, target, folder / "captioner", folder / "filter", folder / "none")
    command = [sys.executable, "-c", CHILD, *map(str, paths)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.splitlines()[-1])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 100, 400])
    parser.add_argument("--samples", type=int, default=16)
    asked = parser.parse_args()
    print(f"| shards of {asked.samples} pictures | peak memory | ms a shard |\n|-|-|-|")
    rows = []
    with tempfile.TemporaryDirectory(prefix="capfilt-memory-") as name:
        for number, model in enumerate(("captioner", "filter")):
            write_model(Path(name) / model, number)
        for shards in asked.shards:
            row = measured(Path(name), shards, asked.samples)
            rows.append((shards, row["peak"]))
            print(f"| {shards:,} | {row['peak'] / 2**20:,.1f} MiB | {1e3 * row['seconds'] / shards:.0f} |")
    (few, low), *_, (many, high) = rows
    print(f"\nFrom {few:,} to {many:,} shards {(high - low) / (many - few) / 1024:.2f} KiB more for each.")


if __name__ == "__main__":
    main()

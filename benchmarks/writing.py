"""Write 100,000 samples: ours with sums, table and manifest, against a bare webdataset.TarWriter.

    python benchmarks/writing.py [--samples 100000] [--rounds 3]

Both write the same pictures and annotations, alternately, to the same disk; printed is a Markdown table.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import webdataset

from blip.data.pairs import Caption, PairsWriter, Sample

PER_SHARD = 1000


def samples(count: int, size: int) -> list[Sample]:
    """Samples with media of `size` bytes that do not compress, and a caption of ten words."""
    noise = np.random.default_rng(0).integers(0, 256, size + count, dtype=np.uint8).tobytes()
    return [
        Sample(
            f"{n:09d}",
            noise[n : n + size],
            "jpg",
            (Caption(f"picture number {n} of a red chair beside a wooden table", "web"),),
            width=256,
            height=256,
        )
        for n in range(count)
    ]


def ours(folder: Path, data: list[Sample]) -> None:
    """A pairs dataset."""
    with PairsWriter(folder, samples_per_shard=PER_SHARD, parents=[], parameters={}) as writer:
        for number, sample in enumerate(data):
            writer.add(sample, phash=number)


def bare(folder: Path, data: list[Sample]) -> None:
    """Tars of the same pictures and annotations, nothing else."""
    folder.mkdir()
    for start in range(0, len(data), PER_SHARD):
        with webdataset.TarWriter(str(folder / f"{start // PER_SHARD:05d}.tar")) as writer:
            for sample in data[start : start + PER_SHARD]:
                captions = [vars(caption) for caption in sample.captions]
                about = {"width": sample.width, "height": sample.height, "captions": captions}
                writer.write({"__key__": sample.key, "jpg": sample.media, "json": json.dumps(about).encode()})


def main() -> None:
    """Time both alternately and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    data = samples(asked.samples, asked.bytes)
    seconds: dict[str, list[float]] = {"blip": [], "TarWriter": []}
    for _ in range(asked.rounds):
        for name, write in (("blip", ours), ("TarWriter", bare)):
            folder = Path(tempfile.mkdtemp(prefix="writing-"))
            try:
                start = time.perf_counter()
                write(folder / "dataset", data)
                seconds[name].append(time.perf_counter() - start)
            finally:
                shutil.rmtree(folder)
    rates = {name: asked.samples / statistics.median(values) for name, values in seconds.items()}
    print(f"| {asked.samples:,} samples of {asked.bytes:,} bytes, median of {asked.rounds} | samples/s |")
    print("|-|-|")
    print(f"| blip: shards, SHA-256 of files and shards, metadata.parquet, manifest | {rates['blip']:,.0f} |")
    print(f"| bare webdataset.TarWriter | {rates['TarWriter']:,.0f} |")
    print(f"| ratio | {rates['blip'] / rates['TarWriter']:.2f} |")


if __name__ == "__main__":
    main()

"""How many pictures a second CapFilt can look at: decoding and scaling, by the threads that work ahead of a GPU.

    python benchmarks/capfilt_pictures.py --threads 1 2 8

JPEGs as `blip bench loader` has them, in the view of a captioner of 384 pixels and of a filter of 224. Nothing is done
with them: it is what a GPU that takes no time would wait for.
"""

import argparse
import statistics
import time

from blip.bench.loader import picture
from blip.capfilt.pictures import View, ahead
from blip.data.pairs import Sample
from blip.machine import processor

WANTED = (View(384), View(224))
PICTURES, BATCH, TURNS = 2048, 256, 3


def seconds(samples: list[Sample], threads: int) -> float:
    """For all of them."""
    start = time.perf_counter()
    batches = (samples[n : n + BATCH] for n in range(0, len(samples), BATCH))
    for _ in ahead(batches, WANTED, threads):
        pass
    return time.perf_counter() - start


def main() -> None:
    """Measure by turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    chosen = [0, *parser.parse_args().threads]
    samples = [Sample(str(n), picture(n), "jpg", ()) for n in range(PICTURES)]
    taken: dict[int, list[float]] = {threads: [] for threads in chosen}
    for _ in range(TURNS):
        for threads in chosen:
            taken[threads].append(seconds(samples, threads))
    print(f"{processor()}, {PICTURES} JPEGs, 384 and 224 px\n\n| threads | pictures/s |\n|-|-|")
    for threads, turns in taken.items():
        rate = PICTURES / statistics.median(turns)
        print(f"| {threads or 'none: between two batches'} | {rate:,.0f} |")


if __name__ == "__main__":
    main()

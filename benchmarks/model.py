"""The table of benchmarks/README.md: `blip bench` for every row, each in a process of its own.

    python benchmarks/model.py                          # base, float32, on a CPU; about 40 minutes on two cores
    python benchmarks/model.py --gpu --dtype bfloat16   # one of 80 GB or more, compiled, in batches that fill it

Prints Markdown: seconds, FLOPs and share of the matmul peak of either side. A ratio is the median over turns in one
process; peak memory is that of a process of one side.
"""

import argparse
import json
import subprocess
import sys
from datetime import date
from typing import Any

ROWS = {
    "step": ("pre-training step, batch 16, 224 px", ["step", "--batch", "16", "--repeats", "3"]),
    "greedy": ("captions, greedy, batch 16, 384 px", ["caption", "--beams", "1", "--repeats", "3"]),
    "beam": ("captions, 3 beams, batch 16, 384 px", ["caption", "--beams", "3", "--repeats", "3"]),
    "nucleus": ("captions, nucleus, batch 16, 384 px", ["caption", "--decoding", "nucleus"]),
    "nucleus4": (
        "captions, nucleus, 4 each, batch 16, 384 px",
        ["caption", "--decoding", "nucleus", "--captions", "4"],
    ),
    "filter": ("filter, 8 images x 4 texts, 224 px", ["filter", "--batch", "8", "--image-size", "224"]),
    "rerank": ("re-ranking, 64 images x 64 texts, 224 px", ["rerank", "--repeats", "1"]),
}
FILLING = ["--compile", "--no-memory", "--repeats", "10"]
ALONE = [*FILLING, "--against", "nothing"]
GPU_ROWS = {
    "recipe": ("pre-training step, batch 480, 224 px", ["step", "--batch", "480", *ALONE]),
    "greedy-2048": ("captions, greedy, batch 2,048, 384 px", ["caption", "--batch", "2048", *ALONE]),
    "step-128": ("pre-training step, batch 128, 224 px", ["step", "--batch", "128", *FILLING]),
    "step-64": ("pre-training step, batch 64, 224 px", ["step", "--batch", "64", *FILLING]),
    "greedy-512": ("captions, greedy, batch 512, 384 px", ["caption", "--batch", "512", *FILLING]),
}


def measured(arguments: list[str]) -> dict[str, Any]:
    """What `blip bench` says."""
    command = [sys.executable, "-m", "blip.cli", "bench", *arguments, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def line(label: str, result: dict[str, Any]) -> str:
    """A row of the table."""
    sides = result["sides"]
    cells = [label, result["setup"]["dtype"]]
    for side in sides.values():
        share = side["flops"] / side["median_seconds"] / result["peak_flops"]
        cells.append(
            f"{side['items_per_second']:.2f}/s, {side['flops'] / 1e12:.2f} TFLOP, {100 * share:.0f}%"
        )
    if len(sides) == 1:
        return "| " + " | ".join([*cells, "", "", "", ""]) + " |"
    cells.append(f"{result['ratio']:.2f}x")
    cells.append(f"{sides['transformers']['flops'] / sides['ours']['flops']:.2f}x")
    cells.append(f"{result['memory_ratio']:.2f}x" if result["memory_ratio"] else "")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=ROWS | GPU_ROWS, nargs="+", help="these rows")
    parser.add_argument("--gpu", action="store_true", help="the rows that fill a GPU")
    parser.add_argument("--size", default="base")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    settings = parser.parse_args()
    names = settings.only or (GPU_ROWS if settings.gpu else ROWS)
    shared = ["--size", settings.size, "--dtype", settings.dtype, "--device", settings.device]
    for number, name in enumerate(names):
        label, arguments = (ROWS | GPU_ROWS)[name]
        result = measured([*arguments, *shared])
        if number == 0:
            print(
                f"{result['machine']}, {result['versions']}, {date.today()}, size {settings.size}; ", end=""
            )
            print(f"matmul peak {result['peak_flops'] / 1e9:.0f} GFLOP/s\n")
            print("| work | type | ours | transformers | speed | FLOP ratio | peak memory |")
            print("|---|---|---|---|---|---|---|")
        print(line(label, result), flush=True)


if __name__ == "__main__":
    main()

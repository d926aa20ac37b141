"""The table of benchmarks/README.md: `blip bench` for every row, each in a process of its own.

    python benchmarks/model.py                      # base, float32, on a CPU; about 40 minutes on two cores
    python benchmarks/model.py --only caption --dtype bfloat16 --device cuda

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


def measured(arguments: list[str]) -> dict[str, Any]:
    """What `blip bench` says."""
    command = [sys.executable, "-m", "blip.cli", "bench", *arguments, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def line(label: str, result: dict[str, Any]) -> str:
    """A row of the table."""
    ours, theirs = result["sides"]["ours"], result["sides"]["transformers"]
    cells = [label, result["setup"]["dtype"]]
    for side in (ours, theirs):
        share = side["flops"] / side["median_seconds"] / result["peak_flops"]
        cells.append(
            f"{side['items_per_second']:.2f}/s, {side['flops'] / 1e12:.2f} TFLOP, {100 * share:.0f}%"
        )
    cells.append(f"{result['ratio']:.2f}x")
    cells.append(f"{theirs['flops'] / ours['flops']:.2f}x")
    cells.append(f"{result['memory_ratio']:.2f}x" if result["memory_ratio"] else "")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=ROWS, nargs="+", default=list(ROWS))
    parser.add_argument("--size", default="base")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    settings = parser.parse_args()
    shared = ["--size", settings.size, "--dtype", settings.dtype, "--device", settings.device]
    for number, name in enumerate(settings.only):
        label, arguments = ROWS[name]
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

"""The scaling model of `blip doctor` beside what CPU ranks do here, and what it says of 1 to 1,024 H100s.

    python -m benchmarks.scaling                      # four minutes on two cores with nothing else running
    python -m benchmarks.scaling --cpu-time           # where other work runs beside

Inputs are measured at one rank, and messages between two: what a step reaches of the products' peak, the optimiser's
bytes/s, an all-reduce's bytes/s, the time of a short one, and how much all cores do of what one does. From them the
model says what two and four ranks do, which is measured too: real ranks, started as a stage starts them, with batches
that are ready. Numbers of ranks take turns, several rounds, and medians count. With --cpu-time seconds are the
processor's, and ranks beyond the cores take as much longer as there are more of them. Prints Markdown.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from blip.atomic import write_json
from blip.config import Optimiser, Training, load_settings
from blip.data.text import SpecialTokens
from blip.doctor.activations import Texts
from blip.doctor.scaling import ADAM_PASSES, GPUS, TWIN_PASSES, Hardware, Work, predict
from blip.doctor.work import pair_work
from blip.machine import processor
from blip.model.batch import PairBatch
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.training.engine import build_engine, quiet, start_process_group
from blip.training.launch import spawn
from blip.training.memory import keep_freed_memory
from blip.training.peak import matmul_peak

ROOT = Path(__file__).parents[1]
CONFIG = BlipConfig(VisionConfig(128, 16, 256, 6, 4), TextConfig(8000, 256, 4, 4, context_width=256))
BATCH, LENGTH, QUEUE = 8, 14, 4096
STEPS, WARM_UP = 8, 2
CPU_TIME = "BLIP_BENCH_CPU_TIME"  # in the environment, for the ranks too
MESSAGE = 20_000_000  # bytes of the all-reduce that is timed


def objective() -> PairObjective:
    """The published objective on a small network."""
    torch.manual_seed(0)
    tokens = SpecialTokens(pad=0, sep=2, decode=3, encode=4)
    return PairObjective(BlipNetwork(CONFIG), ObjectiveConfig(queue=QUEUE), tokens).train()


def batch() -> PairBatch:
    """Noise with texts of equal length."""
    ids, side = torch.randint(10, 8000, (BATCH, LENGTH)), CONFIG.vision.image_size
    group = torch.arange(BATCH)[:, None].expand(-1, 2)
    return PairBatch(torch.randn(BATCH, 3, side, side), ids, torch.ones_like(ids), group)


def work() -> Work:
    """A step of a rank."""
    made = objective()
    weights = sum(p.numel() * 4 for p in made.parameters())
    assert made.twin is not None
    twin = sum(b.numel() * 4 for b in made.twin.buffers())
    flops = sum(pair_work(CONFIG, Texts(LENGTH, LENGTH), queue=QUEUE).values())
    return Work(flops, BATCH, weights, twin, workers=10**6)


def steps_of_a_rank(marker: Path) -> None:
    """Steps of one rank; rank 0 writes the seconds of each, and of the part of it that moves weights."""
    prepare()
    optimiser = Optimiser(lr=1e-5, adam_lr=1e-5)
    engine, pairs = build_engine(objective(), Training(batch_size=BATCH), optimiser), batch()
    seconds = []
    for _ in range(WARM_UP + STEPS):
        dist.barrier()
        start = now()
        losses = engine(pairs)
        engine.backward(losses["loss"])
        middle = now()
        engine.step()
        seconds.append((now() - start, now() - middle))
    report(marker, {"step": middle_of(s for s, _ in seconds), "update": middle_of(u for _, u in seconds)})


def twin_seconds() -> float:
    """What the momentum twin takes of a forward."""
    made = objective()
    assert made.twin is not None
    times = []
    for _ in range(WARM_UP + STEPS):
        start = now()
        made.twin.update(made.network)
        times.append(now() - start)
    return middle_of(times)


def messages_of_a_rank(marker: Path) -> None:
    """All-reduces, long and short; rank 0 writes the seconds of each."""
    prepare()
    with quiet():
        start_process_group()
    long, short = torch.zeros(MESSAGE // 4), torch.zeros(64)
    report(marker, {"long": message_seconds(long, 12), "short": message_seconds(short, 100)})


def message_seconds(x: torch.Tensor, times: int) -> float:
    """Seconds of an all-reduce."""
    seconds = []
    for _ in range(times):
        dist.barrier()
        start = now()
        dist.all_reduce(x)
        seconds.append(now() - start)
    return middle_of(seconds)


def now() -> float:
    """Seconds of the clock that counts."""
    return time.process_time() if CPU_TIME in os.environ else time.perf_counter()


def middle_of(seconds: Any) -> float:
    """The median behind the first ones."""
    return statistics.median(list(seconds)[WARM_UP:])


def prepare() -> None:
    """As a rank of a stage does."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()


def report(marker: Path, values: dict[str, float]) -> None:
    """Write what rank 0 has found."""
    if dist.get_rank() == 0:
        write_json(marker, values)


def measured(what: str, ranks: int) -> dict[str, float]:
    """Start the ranks and wait for their report."""
    marker = Path(f"{what}{ranks}.json").resolve()
    spawn(what, ranks, ["benchmarks.scaling", "--rank", what, str(marker)], marker, threads=1)
    return json.loads(marker.read_text())


def usable_cores() -> float:
    """How much all cores do together of what one does alone, in large products."""
    torch.set_num_threads(1)
    alone = peak_here()
    count = len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    together = peak_here()
    torch.set_num_threads(1)
    return together / alone * (count if CPU_TIME in os.environ else 1)


def peak_here() -> float:
    """FLOP/s of a large product."""
    return matmul_peak(torch.float32, torch.device("cpu"), now, seconds=2)


def inputs(of: Work, one: dict[str, float], two: dict[str, float]) -> Hardware:
    """This machine, from a step at one rank and messages between two."""
    torch.set_num_threads(1)
    peak = peak_here()
    twin = twin_seconds()
    moved = TWIN_PASSES * of.twin + ADAM_PASSES * of.weights
    compute = one["step"] - one["update"] - twin
    return Hardware(
        processor(),
        peak,
        of.pairs * of.flops / compute / peak,
        bandwidth=moved / (one["update"] + twin),
        near=MESSAGE / two["long"],  # a ring of two sends as many bytes as the message has
        far=MESSAGE / two["long"],
        per_node=10**6,
        latency=two["short"],
        loader=1e9,
        cores=usable_cores(),
    )


def compare(rounds: int) -> None:
    """Measure in turns, predict, and print a table."""
    found: dict[int, list[dict[str, float]]] = {ranks: [] for ranks in (1, 2, 4)}
    messages = []
    for _ in range(rounds):
        messages.append(measured("messages", 2))
        for ranks, values in found.items():
            values.append(measured("steps", ranks))
    middle = {ranks: _median(values) for ranks, values in found.items()}
    of = work()
    here = inputs(of, middle[1], _median(messages))
    print(
        f"{here.name}, torch {torch.__version__}: {here.flops / 1e9:.0f} GFLOP/s in large products on a core, ",
        end="",
    )
    print(f"{here.efficiency:.0%} of them in a step; all cores do {here.cores:.2f} times as much; ", end="")
    print(f"{here.bandwidth / 1e9:.1f} GB/s in the optimiser, {here.near / 1e9:.2f} GB/s in an all-reduce\n")
    print("| ranks | measured | predicted | ratio | compute | update | all-reduce | gather |")
    print("|---|---|---|---|---|---|---|---|")
    for ranks, values in middle.items():
        assert here.cores is not None
        wait = max(ranks / here.cores, 1.0) if CPU_TIME in os.environ and ranks > 1 else 1.0
        said, real = predict(of, here, ranks), ranks * BATCH / (values["step"] * wait)
        parts = " | ".join(f"{part:.3f} s" for part in (said.compute, said.update, said.reduce, said.gather))
        ratio = said.pairs_per_second / real
        print(
            f"| {ranks} | {real:.1f} pairs/s | {said.pairs_per_second:.1f} pairs/s | {ratio:.2f} | {parts} |"
        )


def _median(values: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in values) for name in values[0]}


def on_paper(gpu: str, batch_size: int, recipe: str) -> None:
    """What the model says of many GPUs, for base-14m's network."""
    settings = load_settings(ROOT / "params.yaml", recipe)
    config = BlipConfig()
    with torch.device("meta"):
        made = PairObjective(BlipNetwork(config), ObjectiveConfig(), SpecialTokens(0, 1, 2, 3))
    assert made.twin is not None
    weights = sum(p.numel() * 4 for p in made.parameters())
    twin = sum(b.numel() * 4 for b in made.twin.buffers())
    flops = sum(pair_work(config, Texts(12, settings.model.text.max_tokens)).values())
    print(f"\n{GPUS[gpu].name}, {batch_size} pairs a rank, 8 workers each:\n")
    print("| GPUs | pairs/s | a GPU | step | bound by | all-reduce |\n|---|---|---|---|---|---|")
    for ranks in (1, 8, 32, 256, 1024):
        said = predict(Work(flops, batch_size, weights, twin, workers=8), GPUS[gpu], ranks)
        rate = said.pairs_per_second
        row = f"{ranks:,} | {rate:,.0f} | {rate / ranks:,.0f} | {said.step * 1e3:.0f} ms | {said.bound}"
        print(f"| {row} | {said.reduce / said.step:.0%} |")


def main() -> None:
    """Be a rank, or measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.rank:
        what, marker = settings.rank
        {"steps": steps_of_a_rank, "messages": messages_of_a_rank}[what](Path(marker))
        return
    if settings.cpu_time:
        os.environ[CPU_TIME] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        compare(settings.rounds)
    on_paper("h100", 90, "base-14m")


if __name__ == "__main__":
    sys.exit(main())

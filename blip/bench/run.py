"""One measurement from a setup to its figures.

comparison = compare("rerank", Setup(batch=64, texts=64), repeats=3)
comparison.ratio          # how many times faster ours is
"""

import statistics
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from types import ModuleType
from typing import Any, Literal

import torch

from blip.bench import caption, judging, rerank, step
from blip.bench.measure import Call, by_turns, counted_flops, median_ratio, peak_bytes
from blip.bench.workload import Setup
from blip.model.device import machine
from blip.training.memory import keep_freed_memory
from blip.training.peak import matmul_peak

Work = Literal["step", "caption", "rerank", "filter"]
SideName = Literal["ours", "transformers"]

WORKS: dict[str, ModuleType] = {"step": step, "caption": caption, "rerank": rerank, "filter": judging}


@dataclass(frozen=True)
class Side:
    """The figures of one side.

    Attributes:
        seconds: of each call.
        flops: of the matrix products of one call.
        peak_bytes: the most memory of a process that does this alone; None when not measured.
        tokens: of the captions of all calls; None for other work.
    """

    seconds: list[float]
    flops: int
    peak_bytes: int | None
    tokens: int | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of captions, from pixels on."""
        return None if self.tokens is None else self.tokens / sum(self.seconds)

    @property
    def median(self) -> float:
        """Seconds of a typical call."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """Both sides, or ours alone.

    Attributes:
        items: pairs or captions of one call.
        peak_flops: FLOP/s of a large matrix product in the same type, measured in the same run.
        ratio: how many times faster ours is; the median over the turns.
    """

    work: Work
    setup: Setup
    items: int
    sides: dict[SideName, Side]
    peak_flops: float
    ratio: float | None
    machine: str
    versions: str

    @property
    def memory_ratio(self) -> float | None:
        """Our peak memory over theirs."""
        peaks = [side.peak_bytes for side in self.sides.values()]
        return peaks[0] / peaks[1] if len(peaks) == 2 and peaks[0] and peaks[1] else None


def compare(
    work: Work,
    setup: Setup,
    repeats: int = 5,
    against: bool = True,
    memory: bool = True,
    cpu_time: bool = False,
) -> Comparison:
    """Measure `work`; the sides take turns after one call each that is not counted.

    Args:
        against: measure `transformers` too.
        memory: measure each side's peak memory in a process of its own.
        cpu_time: seconds are the processor's, which others on the machine take nothing of; sensible with one thread.
    """
    prepare()
    device = torch.device(setup.device)
    names: list[SideName] = ["ours", "transformers"] if against else ["ours"]
    peaks = {name: peak_bytes(work_once, work, name, setup) if memory else None for name in names}
    calls = {name: build(work, name, setup) for name in names}
    flops = {name: _flops(work, name, setup, calls[name]) for name in names}
    results: dict[SideName, list[Any]] = {name: [] for name in names}
    noted = {name: _noting(calls[name], results[name]) for name in names}
    clock = time.process_time if cpu_time else time.perf_counter
    seconds = by_turns(noted, repeats, device, clock)
    sides: dict[SideName, Side] = {
        name: Side(seconds[name], flops[name], peaks[name], _tokens(work, results[name])) for name in names
    }
    peak = matmul_peak(getattr(torch, setup.dtype), device, clock)
    ratio = median_ratio(seconds, "ours", "transformers") if against else None
    items = setup.batch * {"rerank": setup.texts, "filter": setup.texts, "caption": setup.captions}.get(
        work, 1
    )
    return Comparison(work, setup, items, sides, peak, ratio, machine(setup.device), versions())


def _flops(work: Work, side: SideName, setup: Setup, call: Call) -> int:
    """Of a call, which is warm then; in compiled layers they cannot be counted, so another call is built for ours."""
    if not setup.compiled or side == "transformers":
        return counted_flops(call)
    call()
    return counted_flops(build(work, side, replace(setup, compiled=False)))


def _noting(call: Call, results: list[Any]) -> Call:
    """The call, whose result is added to a list."""
    return lambda: results.append(call())


def _tokens(work: Work, results: list[Any]) -> int | None:
    return sum(map(caption.tokens_in, results)) if work == "caption" else None


def build(work: Work, side: SideName, setup: Setup) -> Call:
    """The call that does the work once."""
    module = WORKS[work]
    return module.ours(setup) if side == "ours" else module.theirs(setup)


def work_once(work: Work, side: SideName, setup: Setup) -> None:
    """Do the work in a process whose memory is watched; a step twice, as the first makes the optimiser's state."""
    prepare()
    call = build(work, side, setup)
    call()
    if work == "step":
        call()


def prepare() -> None:
    """What a training process of ours sets, for both sides: no denormals, freed memory kept."""
    torch.set_flush_denormal(True)
    keep_freed_memory()


def versions() -> str:
    """The libraries that matter."""
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))

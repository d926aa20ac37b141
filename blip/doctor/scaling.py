"""How fast a run is on a number of devices, on paper: products, bytes of the optimiser, all-reduce, gather, loader.

    found = predict(Work(flops=193e9, pairs=90, weights=1.01e9, twin=0.78e9), GPUS["h100"], ranks=32)
    found.pairs_per_second, found.bound              # 44,000; "compute"

A step of a rank is its products at the share of the peak that they reach, the bytes that moving weights, momentum twin
and gradients takes, and what the ranks send each other: a ring's all-reduce of the gradients and gather of the weights
(ZeRO 1 and 2), and features or image tokens. DeepSpeed reduces when the backward is done, so nothing is hidden behind
anything, but for the loader: of it and all the rest the slower one counts. benchmarks/scaling.py compares this with
CPU ranks. The figures of GPUs are data sheets'. The share of an H200's products that a step reaches was measured (base,
480 pairs, compiled: 1,691 pairs/s); other cards are taken to reach as much, and bytes/s are assumed.
"""

from dataclasses import dataclass, replace
from math import ceil, log2

# How often the bytes of what they move are read or written.
ADAM_PASSES = 11  # weights: with moments and gradients, copied flat and back
TWIN_PASSES = 3
REDUCE_PASSES = 6  # weights: gradients are copied into buckets, divided and copied back
REACHED = 0.34  # of the data sheet's bfloat16 products, by a step of base with 480 pairs on an H200
LOADER = 1000.0  # pictures/s of a worker: 256 px JPEG to 224 px with RandAugment, on a core of an EPYC


@dataclass(frozen=True)
class Work:
    """A step of one rank.

    Attributes:
        flops: of a pair.
        pairs: of a step: batch_size * accumulate.
        weights, twin: bytes.
        gathered: bytes a pair that every rank gets from each other.
        collectives: messages of a step that are waited for.
        zero_stage: ranks divide the optimiser's work where it is above 0.
        workers: processes that prepare a rank's pictures.
    """

    flops: float
    pairs: int
    weights: float
    twin: float
    gathered: float = 2 * (256 * 4 + 16)
    collectives: int = 8
    zero_stage: int = 1
    workers: int = 1


@dataclass(frozen=True)
class Hardware:
    """One device, and what joins it to others.

    Attributes:
        flops: FLOP/s at best in the run's type; `efficiency`: the share of them that a step reaches.
        flops_float32: of a GPU in float32, without TF32, which training leaves off; `flops` is that of 16 bits.
        bandwidth: bytes/s of its memory, as the optimiser reaches it.
        near, far: bytes/s of an all-reduce (what a device sends) within a node, and between nodes through all of a
            node's network cards together.
        per_node: devices of a node.
        latency: seconds of a message.
        loader: pairs/s that one worker prepares.
        capacity: bytes of memory.
        cores: what the ranks share on a CPU, a rank using one; None where each has a device of its own.
    """

    name: str
    flops: float
    efficiency: float
    bandwidth: float
    near: float
    far: float
    per_node: int = 8
    latency: float = 20e-6
    loader: float = LOADER
    capacity: float = 80e9
    flops_float32: float | None = None
    cores: float | None = None

    def shared_by(self, ranks: int) -> "Hardware":
        """What a rank has of it; ranks beyond the cores of a CPU share them."""
        if self.cores is None or ranks <= 1:
            return self
        share = min(1.0, self.cores / ranks)
        rates = {
            name: getattr(self, name) * share for name in ("flops", "bandwidth", "near", "far", "loader")
        }
        return replace(self, latency=self.latency / share, **rates)


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step by what they go to; `load` are those that its pictures take to prepare."""

    ranks: int
    pairs: int
    compute: float
    update: float
    reduce: float
    gather: float
    load: float

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return max(self.compute + self.update + self.reduce + self.gather, self.load)

    @property
    def pairs_per_second(self) -> float:
        """Of all ranks."""
        return self.ranks * self.pairs / self.step

    @property
    def bound(self) -> str:
        """What takes the most of a step: compute, update, all-reduce, gather or loader."""
        if self.load >= self.step:
            return "loader"
        parts = {
            "compute": self.compute,
            "update": self.update,
            "all-reduce": self.reduce,
            "gather": self.gather,
        }
        return max(parts, key=lambda name: parts[name])


def predict(work: Work, hardware: Hardware, ranks: int) -> Prediction:
    """A step on that many ranks."""
    own = hardware.shared_by(ranks)
    divided = ranks if work.zero_stage else 1
    moved = TWIN_PASSES * work.twin + ADAM_PASSES * work.weights / divided
    moved += REDUCE_PASSES * work.weights * (ranks > 1)
    others = (ranks - 1) / ranks
    ring = own.near if ranks <= own.per_node else min(own.near, own.far)
    gathers_weights = 1 if work.zero_stage else 0
    sent = (2 + gathers_weights) * others * work.weights
    hops = ceil(log2(ranks)) if ranks > 1 else 0
    return Prediction(
        ranks,
        work.pairs,
        compute=work.pairs * work.flops / (own.flops * own.efficiency),
        update=moved / own.bandwidth,
        reduce=sent / ring,
        gather=work.gathered * work.pairs * (ranks - 1) / ring + work.collectives * hops * own.latency,
        load=work.pairs / (own.loader * max(work.workers, 1)),
    )


def _gpu(
    name: str, teraflops: tuple[float, float], memory: float, capacity: float, near: float, far: float
) -> Hardware:
    """A data sheet: TFLOP/s in bfloat16 and float32, TB/s, GiB that programs see, GB/s one way to devices and nodes."""
    return Hardware(
        name,
        teraflops[0] * 1e12,
        REACHED,
        0.8 * memory * 1e12,
        0.8 * near * 1e9,
        0.8 * far * 1e9,
        capacity=capacity * 2**30,
        flops_float32=teraflops[1] * 1e12,
    )


GPUS = {
    "b200": _gpu("B200", (2250, 75), 8.0, 178, 900, 400),
    "h200": _gpu("H200", (989, 67), 4.8, 139, 450, 400),
    "h100": _gpu("H100", (989, 67), 3.35, 78, 450, 400),
    "a100": _gpu("A100", (312, 19.5), 2.0, 78, 300, 200),
    "a100-40": _gpu("A100 40 GB", (312, 19.5), 1.55, 39, 300, 200),
    "l40s": _gpu("L40S", (362, 91.6), 0.86, 44, 32, 25),
}

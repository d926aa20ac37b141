"""Two training steps of the objective on this rank's share of the pairs, as the processes of test_ranks.py run it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from blip.model.batch import PairBatch
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.ranks import from_first_rank, gather, gather_with_gradient, own_rows
from tests import tiny

TEXTS = (
    "red apple", "dog", "the dog on the table", "green x", "table", "picture of the red dog in the picture",
    "the apple", "green dog in the picture", "on", "the red table", "red", "dog on the green table",
)  # fmt: skip
PAIRS = {2: 16, 4: 16, 3: 6}  # of a step, by the number of ranks
IMAGE_OF_GROUP = (1, 2, 1, 3, 4, 2, *range(5, 15))  # images 0 and 2 are one and the same, so are 1 and 5
QUEUE = 21
STEPS = 2
GLOBAL: dict[str, Any] = {"itc_keys": "global", "itm_negatives": "global", "lm": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "as published": {},
    "all ranks": GLOBAL,
    "all ranks, fine-tuning": GLOBAL | {"negative_floor": 0.0, "queue": 0},
    "all ranks, sigmoid": GLOBAL | {"contrast": "sigmoid", "sigmoid_bias": -2.0},
    "all ranks, two captions per image": GLOBAL | {"captions": 2},
}


def objective(case: str) -> PairObjective:
    settings = {name: value for name, value in CASES[case].items() if name != "captions"}
    network = tiny.network(2, width=32)
    torch.manual_seed(1)
    config = ObjectiveConfig(**{"queue": QUEUE, "momentum": 0.9} | settings)
    return PairObjective(network, config, tiny.tokenizer().special_tokens).train()


def share(case: str, step: int, rank: int, world: int, pairs: int) -> PairBatch:
    """This rank's images with their texts, padded to the longest of the rank alone."""
    per_image = CASES[case].get("captions", 1)
    each = pairs // world
    own = range(each * rank, each * (rank + 1))
    chosen = [(image, number) for image in own for number in range(per_image)]
    texts = [TEXTS[(per_image * image + number + 5 * step) % len(TEXTS)] for image, number in chosen]
    ids, mask = tiny.tokenizer().encode(texts, 12)
    groups = [(IMAGE_OF_GROUP[image], 100 * image + number) for image, number in chosen]
    noise = torch.randn(pairs, 3, 32, 32, generator=torch.Generator().manual_seed(step))
    index = torch.tensor([image - own.start for image, _ in chosen]) if per_image > 1 else None
    return PairBatch(noise[own.start : own.stop], ids, mask, torch.tensor(groups), image=index)


def step_of(made: PairObjective, given: PairBatch, seed: int) -> dict[str, Any]:
    """Losses and gradients of one step, and the queue behind it."""
    made.zero_grad()
    torch.manual_seed(seed)
    losses = made(given)
    losses["loss"].backward()
    return {
        "losses": {name: loss.item() for name, loss in losses.items()},
        "gradients": {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None},
        "queue": {} if made.queue is None else {n: x.clone() for n, x in made.queue.state_dict().items()},
    }


def exchanged(rank: int) -> dict[str, Any]:
    """What the functions of `blip.model.ranks` give: row r is rank r's, the loss of rank r weighs all rows by r + 1."""
    x = torch.full((1, 2), float(rank), requires_grad=True)
    everyones = gather_with_gradient(x)
    (everyones * (rank + 1)).sum().backward()
    assert x.grad is not None
    return {
        "gathered": gather(torch.tensor([rank, 10 + rank])).tolist(),
        "everyones": everyones[:, 0].tolist(),
        "gradient": x.grad[0].tolist(),
        "first": from_first_rank(torch.tensor([rank + 7])).item(),
        "own": own_rows(everyones)[0, 0].item(),
    }


def run(rank: int, world: int, folder: str) -> None:
    """Entry of a process: every case, written to FOLDER/WORLD-RANK.pt."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet-{world}", timedelta(seconds=60), world_size=world, rank=rank
    )
    results: dict[str, Any] = {"exchanged": exchanged(rank)}
    for case in CASES:
        made = objective(case)
        # Only rank 0 has the seed of a run with one rank: what is drawn for all is its draw.
        steps = [
            step_of(made, share(case, step, rank, world, PAIRS[world]), seed(step, rank))
            for step in range(STEPS)
        ]
        results[case] = steps
    torch.save(results, Path(folder) / f"{world}-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def seed(step: int, rank: int) -> int:
    return step + 10 * rank


def mean_gradient(results: list[dict[str, Any]]) -> dict[str, Tensor]:
    """What data parallelism leaves on every rank."""
    return {n: sum(r["gradients"][n] for r in results) / len(results) for n in results[0]["gradients"]}  # type: ignore[misc]

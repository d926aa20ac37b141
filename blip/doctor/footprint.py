"""The memory that a rank of a training run needs at most, reckoned before it starts.

    found = footprint(objective_on_meta, run, texts, "cuda", torch.bfloat16)
    found.peak, found.parts             # bytes; by what they are for

A step has two heights: when its backward begins, all activations are there, and gradients of logits or of every layer's
keys and values on top; when the optimiser moves the weights, all gradients and what DeepSpeed makes of them. What ZeRO
divides among R ranks was read in DeepSpeed's source. On a CPU benchmarks/memory.py compares this with what a training
process takes. Of one-gpu-14m a step took 49.6 GiB on an H200, and 95.6 with batches of 960; 50.6 and 93.7 are reckoned.
"""

from dataclasses import dataclass

import torch

from blip.config import Run
from blip.doctor.activations import (
    Kept,
    Texts,
    activation_bytes,
    answer_bytes,
    dialog_bytes,
    statement_bytes,
)
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.dialogs import DialogObjective
from blip.model.objectives import PairObjective
from blip.model.statements import StatementObjective
from blip.model.vqa import AnswerObjective
from blip.training.groups import parameter_groups, trainable

Objective = PairObjective | AnswerObjective | StatementObjective | DialogObjective
ASKED_BYTES = {
    AnswerObjective: answer_bytes,
    StatementObjective: statement_bytes,
    DialogObjective: dialog_bytes,
}

FLOAT = 4
OTHER_BATCHES = "other batches"  # the images of a step beside those of the batch, where ITC is of all of them
BUCKET = 500_000_000 * FLOAT  # DeepSpeed's, into which gradients are copied to be reduced
GATHERED = 0.2  # of the weights are whole at a time under ZeRO 3
FIXED = {"cpu": 70e6, "cuda": 1.5e9}  # libraries, thread pools, the CUDA context and NCCL's buffers
REORDERED = 80e6  # what oneDNN keeps for products in bfloat16 on a CPU


@dataclass(frozen=True)
class Footprint:
    """Bytes of one rank.

    Attributes:
        state: what stays from step to step: weights, optimiser, twin and queue, average.
        forward: on top of it when a forward is done and its backward begins.
        update: on top of it while the optimiser moves the weights.
        parts: the same by name, of the higher of the two.
    """

    state: dict[str, float]
    forward: dict[str, float]
    update: dict[str, float]

    @property
    def peak(self) -> float:
        """The most that is held at a time."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, float]:
        """What is held at the peak."""
        higher = max(self.forward, self.update, key=lambda parts: sum(parts.values()))
        return {**self.state, **higher}


def footprint(objective: Objective, run: Run, texts: Texts, device: str, dtype: torch.dtype) -> Footprint:
    """The memory of one rank of a run.

    Args:
        objective: with the run's locked parts locked; it may be on the device ``meta``.
        texts: how long they are.
        device: ``cpu`` or ``cuda``.
        dtype: of products; weights are float32.
    """
    training, ranks = run.training, run.training.ranks
    groups = [sum(p.numel() for p in group["params"]) for group in parameter_groups(objective, run.optimiser)]
    weights = FLOAT * sum(p.numel() for _, p in trainable(objective))
    narrow = dtype.itemsize < FLOAT
    state = _state(objective, run, weights) | {
        "fixed": FIXED[device] + REORDERED * (narrow and device == "cpu")
    }
    gradients = weights / (ranks if training.zero_stage >= 2 else 1)
    bucket = BUCKET if ranks > 1 and training.zero_stage in (1, 2) else 0.0
    bucket = bucket if device == "cuda" else min(bucket, weights)  # what a CPU does not touch takes no memory
    forward = _forward(objective, run, texts, device, dtype)
    if training.accumulate > 1:
        forward |= {"gradients": gradients}
    update = {"gradients": gradients + bucket, "update": _update(groups, run, device, gradients)}
    others = _other_batches(objective, run)
    forward, update = forward | others, update | others
    if narrow:
        forward["copies of weights"] = dtype.itemsize * weights / FLOAT
    return Footprint(state, forward, update)


def _state(objective: Objective, run: Run, weights: float) -> dict[str, float]:
    """Weights, optimiser, what is no parameter, and the average."""
    stage, ranks = run.training.zero_stage, run.training.ranks
    muon = sum(
        FLOAT * p.numel()
        for group in parameter_groups(objective, run.optimiser)
        if group.get("use_muon")
        for p in group["params"]
    )
    moments = 2 * weights - muon
    master = weights if stage else 0.0  # ZeRO's own copy, which the optimiser moves
    divided = (master + moments) / (ranks if stage else 1)
    whole = weights / ranks + GATHERED * weights * (ranks > 1) if stage == 3 else weights
    frozen = FLOAT * sum(p.numel() for p in objective.parameters() if not p.requires_grad)
    kept = sum(b.numel() * b.element_size() for b in objective.buffers())
    found = {"weights": whole + frozen, "optimiser": divided, "twin and queue": float(kept)}
    if muon and stage in (1, 2):
        found["next momentum"] = muon / ranks  # of a step that may yet be left out; no checkpoint has it
    return found | ({"average": weights} if run.training.average else {})


def _update(groups: list[int], run: Run, device: str, gradients: float) -> float:
    """What DeepSpeed and the optimiser make beside the gradients, group by group, whose own gradients then go."""
    if not run.training.zero_stage:
        return 0.0
    ranks, total = run.training.ranks, sum(groups)
    # The group's gradients as one vector; and on a CPU one more of its size.
    flat = 1 + (device == "cpu")
    left, highest = float(total), 0.0
    for group in groups:
        highest = max(highest, gradients * (left / total - 1) + flat * FLOAT * group / ranks)
        left -= group
    return highest


def _forward(
    objective: Objective, run: Run, texts: Texts, device: str, dtype: torch.dtype
) -> dict[str, float]:
    images = run.training.batch_size
    checkpointing = run.training.activation_checkpointing
    network, wanted = objective.network, run.objective
    size, asked = network.config.vision.image_size, wanted.questions_per_image
    locked = not run.optimiser.vision_lr
    pictures = images * 3 * size**2 * (FLOAT + 1)
    if asking := ASKED_BYTES.get(type(objective)):
        sizes = BlipConfig(network.config.vision, network.config.text)
        each = asking(sizes, texts, device, dtype, asked, checkpointing, locked)
        both = 1 + isinstance(objective, StatementObjective)
        return {"activations": images * each, "batch": both * pictures}
    assert isinstance(network, BlipNetwork)
    kept: Kept = activation_bytes(
        network.config,
        texts,
        device,
        dtype,
        pairs=images,
        captions=wanted.captions_per_image,
        queue=wanted.queue if wanted.contrast == "softmax" else 0,
        losses=(bool(wanted.itc), bool(wanted.itm), bool(wanted.lm)),
        checkpointing=checkpointing,
        locked_vision=locked,
        sharing=run.training.ranks if wanted.itm_negatives == "global" else 1,
        distractors=bool(run.distractors),
    )
    activations = kept.constant + images * kept.total
    of_texts = {p for part in (network.text_encoder, network.text_decoder) for p in part.parameters()}
    gradients = FLOAT * sum(p.numel() for p in of_texts)
    backward = max(0.0, images * kept.losing, images * kept.projecting + gradients)
    return {"activations": activations, "backward": backward, "batch": pictures}


def _other_batches(objective: Objective, run: Run) -> dict[str, float]:
    """Of a step whose features are cached the images of all batches are on the device from its beginning to its end."""
    training = run.training
    if not (training.accumulate_features and isinstance(objective, PairObjective) and objective.config.itc):
        return {}
    size = objective.network.config.vision.image_size
    return {OTHER_BATCHES: (training.accumulate - 1) * training.batch_size * 3.0 * size**2 * FLOAT}

"""Norms of gradients and weights by tower, measured in the steps that log; other steps pay nothing.

    norms = Norms(engine)
    norms.begin(wanted=True)            # before the backward pass of a step that logs
    engine.backward(loss)
    norms.measure()                     # between backward and step
    engine.step()
    norms.squares()                     # this rank's share of each sum of squares

DeepSpeed keeps a norm of its own, but under Muon ZeRO 1 and 2 take it of what Muon made of the gradients, and it does
not know towers. So these are taken of the gradients that all ranks and micro-batches averaged: where DeepSpeed hands
them to Muon (ZeRO 1, 2), or before the step (ZeRO 0, 3).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

TOWERS = ("vision", "text")  # the text tower has all heads
NORMS = tuple(f"{what}_norm{part}" for what in ("grad", "param") for part in ("", "_vision", "_text"))


class Norms:
    """Sums of squares of one rank. Summed over the ranks and drawn the root of, they are norms."""

    def __init__(self, engine: "DeepSpeedEngine") -> None:
        self._wanted = False
        self._engine: Any = engine
        self._stage = engine.zero_optimization_stage()
        self._optimizer: Any = engine.optimizer
        self._world = torch.distributed.get_world_size()
        named = [(name, p) for name, p in self._engine.module.named_parameters() if p.requires_grad]
        self._tower = {id(p): TOWERS[".vision." not in f".{name}"] for name, p in named}
        self._parameters = [p for _, p in named]
        self._gradients: dict[str, Tensor] = {}
        if self._stage in (1, 2):
            self._watch_flat_partitions()

    def begin(self, wanted: bool) -> None:
        """Before each step: whether it logs. What was measured of one that was left out is forgotten."""
        self._gradients, self._wanted = {}, wanted

    def measure(self) -> None:
        """Take the gradients' squares, in the last micro-batch of a step that logs."""
        if not (self._wanted and self._engine.is_gradient_accumulation_boundary()):
            return
        if self._stage == 0:
            self._add((p, p.grad) for p in self._parameters if p.grad is not None)
        elif self._stage == 3:
            for number, group in enumerate(self._optimizer.fp16_groups):
                self._add(zip(group, self._optimizer.averaged_gradients.get(number, ()), strict=False))

    def squares(self) -> Tensor:
        """``[4]``: gradients and weights of the vision and the text tower, this rank's share; then begins anew."""
        weights: dict[str, Tensor] = {}
        _add_squares(weights, ((self._tower[id(p)], self._own(p)) for p in self._parameters))
        shares = [1.0 if self._stage else 1 / self._world] * 2
        shares += [1.0 if self._stage == 3 else 1 / self._world] * 2
        zero = torch.zeros((), device=self._engine.device or "cpu")
        found = [part.get(tower, zero) for part in (self._gradients, weights) for tower in TOWERS]
        self.begin(wanted=False)
        return torch.stack(found) * torch.tensor(shares, device=zero.device)

    def _watch_flat_partitions(self) -> None:
        """See a group's averaged gradients when DeepSpeed flattens them, which is just before Muon changes them."""
        flatten = self._optimizer.get_flat_partition

        def watched(tensor_list: list[Tensor], *arguments: Any, param_group_idx: int, **named: Any) -> Any:
            if self._wanted:
                self._add(self._own_slices(tensor_list, param_group_idx))
            return flatten(tensor_list, *arguments, param_group_idx=param_group_idx, **named)

        self._optimizer.get_flat_partition = watched

    def _own_slices(self, parameters: list[Tensor], group: int) -> Iterable[tuple[Tensor, Tensor]]:
        """The part of each gradient that this rank's partition holds; only that is averaged here."""
        optimizer = self._optimizer
        rank = torch.distributed.get_rank(group=optimizer.real_dp_process_group[group])
        for parameter, gradient in zip(parameters, optimizer.all_grad_tensors[group], strict=True):
            key = optimizer.get_param_id(parameter)
            start = int(optimizer.grad_start_offset[group][rank][key])
            place = int(optimizer.grad_partition_insertion_offset[group][rank][key])
            length = min(gradient.numel() - start, int(optimizer.partition_size[group]) - place)
            yield parameter, gradient.reshape(-1).narrow(0, start, length)

    def _add(self, gradients: Iterable[tuple[Tensor, Tensor]]) -> None:
        scale = float(getattr(self._optimizer, "loss_scale", 1.0))
        found = [(self._tower[id(p)], gradient) for p, gradient in gradients]
        _add_squares(self._gradients, found, scale)

    def _own(self, parameter: Any) -> Tensor:
        """A parameter, or under ZeRO 3 the part of it that lies here, without the padding behind it."""
        if self._stage < 3:
            return parameter
        part = parameter.ds_tensor
        before = torch.distributed.get_rank() * part.numel()
        return part[: max(min(parameter.ds_numel - before, part.numel()), 0)]


@torch.no_grad()
def _add_squares(sums: dict[str, Tensor], found: Iterable[tuple[str, Tensor]], scale: float = 1.0) -> None:
    by_tower: dict[str, list[Tensor]] = {}
    for tower, tensor in found:
        by_tower.setdefault(tower, []).append(tensor.detach())
    for tower, tensors in by_tower.items():
        norms = torch._foreach_norm(tensors, dtype=torch.float32)  # pyright: ignore[reportPrivateImportUsage]
        square = torch.stack(norms).square().sum() / scale**2
        sums[tower] = sums[tower] + square if tower in sums else square


def norms_of(squares: Tensor) -> dict[str, float]:
    """The norms by name, of sums of squares over all ranks; a tower without gradients has no gradient norm."""
    vision, text, vision_weights, text_weights = squares.tolist()
    values = (vision + text, vision, text, vision_weights + text_weights, vision_weights, text_weights)
    found = {name: value**0.5 for name, value in zip(NORMS, values, strict=True)}
    return {name: value for name, value in found.items() if value or not name.startswith("grad_norm_")}

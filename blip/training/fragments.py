"""The state of a DeepSpeed engine by the names of its parameters, so that any number of ranks can go on from it.

whole = whole_state(engine)          # weights, twin, queue: the same on every rank (but not with ZeRO 3)
own = own_state(engine)              # {"network.lm_head.bias|exp_avg|0": ...}: what this rank holds of the rest
restore(engine, stored)              # on as many ranks as there are now

ZeRO lays parameters end to end and gives every rank a stretch of that, so DeepSpeed's own checkpoints (pickles) fit
one number of ranks only. What a rank holds is here said parameter by parameter: which elements, and where they lie.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blip.training.tensors import Stored

MASTER, WEIGHT, MUON = "master", "weight", "momentum_buffer"


@dataclass(frozen=True)
class Piece:
    """Elements `start` to `start + count` of a parameter: they lie from `offset` on in a tensor of the optimiser."""

    name: str
    parameter: nn.Parameter
    start: int
    count: int
    flat: Tensor
    offset: int


def whole_state(engine: Any) -> dict[str, Tensor]:
    """Parameters and buffers that every rank has, each once however often it is shared."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in engine.module.state_dict(keep_vars=True).items():
        if not hasattr(tensor, "ds_id"):
            found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def own_state(engine: Any) -> dict[str, Tensor]:
    """What this rank holds of the optimiser's state, and with ZeRO 3 of the weights."""
    stage = engine.zero_optimization_stage()
    if stage == 0 and torch.distributed.get_rank():
        return {}  # as rank 0 has it
    own: dict[str, Tensor] = {}
    state = _optimiser(engine).state
    for piece in _pieces(engine):
        for key, value in state.get(piece.flat, {}).items():
            if torch.as_tensor(value).ndim == 0:
                own[f"{piece.name}|{key}"] = torch.as_tensor(value)
            elif not (key == MUON and stage in (1, 2)):
                own[f"{piece.name}|{key}|{piece.start}"] = _part(value, piece)
        if stage == 3 or (stage and piece.parameter.dtype != piece.flat.dtype):
            own[f"{piece.name}|{MASTER}|{piece.start}"] = _part(piece.flat.detach(), piece)
    for name, start, momentum in _momenta(engine):
        if start == 0:  # a parameter that lies on two ranks has its whole momentum on both
            own[f"{name}|{MUON}|0"] = momentum
    return own | _frozen(engine)


@torch.no_grad()
def restore(engine: Any, stored: Stored) -> None:
    """Put a stored state into an engine of any number of ranks, each taking the elements that are its own."""
    _restore_whole(engine, stored)
    optimiser = _optimiser(engine)
    placed = {id(flat): group for group in optimiser.param_groups for flat in group["params"]}
    for piece in _pieces(engine):
        optimiser.state[piece.flat] = {}
    elsewhere = {WEIGHT, MUON} if engine.zero_optimization_stage() in (1, 2) else {WEIGHT}
    for piece in _pieces(engine):
        keys = [key for key in stored.keys_of(piece.name) if key not in elsewhere]
        _restore_piece(stored, piece, keys, optimiser.state[piece.flat], placed.get(id(piece.flat), {}))
    for name, _, momentum in _momenta(engine, fresh=True):
        if stored.is_cut(name, MUON):
            momentum.copy_(stored.slice(name, MUON, 0, momentum.numel()))
    if engine.zero_optimization_stage() == 3:
        _restore_partitions(engine, stored)
    if hasattr(engine.optimizer, "_hp_optimizer_states_linked"):
        engine.optimizer._hp_optimizer_states_linked = False  # DeepSpeed links them anew at the next step


def _restore_whole(engine: Any, stored: Stored) -> None:
    first: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    live = engine.module.state_dict(keep_vars=True)
    for name, tensor in live.items():
        if not hasattr(tensor, "ds_id"):
            state[name] = first[id(tensor)] if id(tensor) in first else stored.whole(name)
            first[id(tensor)] = state[name]
    engine.module.load_state_dict(state, strict=len(state) == len(live))


def _restore_piece(
    stored: Stored, piece: Piece, keys: list[str], state: dict[str, Any], group: dict[str, Any]
) -> None:
    for key in keys:
        if not stored.is_cut(piece.name, key):
            value = stored.whole(f"{piece.name}|{key}")
            on_device = group.get("fused") or group.get("capturable")
            # A copy: what is stored is part of the file, which would stay open.
            state[key] = value.to(piece.flat.device if on_device else value.device, copy=True)
            continue
        values = stored.slice(piece.name, key, piece.start, piece.count)
        if key == MASTER:
            _part(piece.flat, piece).copy_(values)
        else:
            if key not in state:
                state[key] = torch.zeros_like(piece.flat, dtype=values.dtype, requires_grad=False)
            _part(state[key], piece).copy_(values)
    if piece.flat is not piece.parameter and MASTER not in keys:
        weights = piece.parameter.flatten()[piece.start : piece.start + piece.count]
        _part(piece.flat, piece).copy_(weights)


def _part(flat: Tensor, piece: Piece) -> Tensor:
    return flat.view(-1).narrow(0, piece.offset, piece.count)


def _optimiser(engine: Any) -> torch.optim.Optimizer:
    """torch's optimiser inside DeepSpeed's."""
    return engine.optimizer.optimizer if engine.zero_optimization_stage() else engine.optimizer


def _pieces(engine: Any) -> Iterator[Piece]:
    """Everything that this rank's optimiser moves."""
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    stage, zero = engine.zero_optimization_stage(), engine.optimizer
    if stage == 0:
        for parameter in (one for group in zero.param_groups for one in group["params"]):
            yield Piece(names[parameter], parameter, 0, parameter.numel(), parameter, 0)
    elif stage < 3:
        for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            for parameter in group:
                if (at := parameter._hp_mapping) is not None:
                    own, there = at.lp_fragment_address, at.hp_fragment_address
                    yield Piece(names[parameter], parameter, own.start, own.numel, flat, there.start)
    else:
        for parameter in (one for group in zero.fp16_groups for one in group):
            number, offset, length = zero.grad_position[zero.get_param_id(parameter)]
            start = length * zero._get_param_partition_rank(parameter)
            count = min(length, parameter.ds_numel - start)  # the last ranks may have less, or nothing
            if count > 0:
                flat = zero.fp32_partitioned_groups_flat[number]
                yield Piece(names[parameter], parameter, start, count, flat, offset)


def _momenta(engine: Any, fresh: bool = False) -> Iterator[tuple[str, int, Tensor]]:
    """Muon's momentum with ZeRO 1 and 2: whole parameters, of all that lie on this rank at least in part.

    Yields:
        the parameter's name, the first of its elements that is this rank's, and its momentum, 1-D.
    """
    zero = engine.optimizer
    if engine.zero_optimization_stage() not in (1, 2):
        return
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    for group, flat in zip(zero.params_in_partition, zero.single_partition_of_fp32_groups, strict=True):
        if not group or not zero._is_muon_group(group):
            continue
        state = zero.optimizer.state[flat]
        if fresh:
            count = sum(parameter.numel() for parameter in group)
            state[MUON] = torch.zeros(count, dtype=flat.dtype, device=flat.device)
        if MUON in state:
            parts = state[MUON].split([parameter.numel() for parameter in group])
            for parameter, part in zip(group, parts, strict=True):
                yield names[parameter], parameter._hp_mapping.lp_fragment_address.start, part


def _frozen(engine: Any) -> dict[str, Tensor]:
    """With ZeRO 3: this rank's part of the parameters that no optimiser moves, as the twin's."""
    return {
        f"{name}|{WEIGHT}|{start}": part
        for name, _, start, part in _partitions(engine, frozen=True)
        if len(part)
    }


def _partitions(engine: Any, frozen: bool) -> Iterator[tuple[str, Any, int, Tensor]]:
    if engine.zero_optimization_stage() != 3:
        return
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad == frozen:
            continue
        length = parameter.ds_tensor.ds_numel
        start = length * engine.optimizer._get_param_partition_rank(parameter)
        count = max(min(length, parameter.ds_numel - start), 0)
        values = parameter.data.view(-1)[start:] if _is_here(parameter) else parameter.ds_tensor.view(-1)
        yield name, parameter, start, values[:count]


def _is_here(parameter: Any) -> bool:
    """Whether the whole parameter lies on this rank, as small ones do all the time."""
    return parameter.data.numel() == parameter.ds_numel and parameter.ds_numel > 0


def _restore_partitions(engine: Any, stored: Stored) -> None:
    """The weights of ZeRO 3: those that are trained from their master copies, the others as they were."""
    zero = engine.optimizer
    for group, flat in zip(zero.fp16_partitioned_groups, zero.fp32_partitioned_groups_flat, strict=True):
        for partition, values in zip(group, zero.unflatten(flat, group), strict=True):
            partition.data.copy_(values)
    for name, parameter in engine.module.named_parameters():
        key = MASTER if parameter.requires_grad else WEIGHT
        if _is_here(parameter):
            whole = stored.slice(name, key, 0, parameter.ds_numel)
            parameter.data.copy_(whole.view(parameter.ds_shape))
    for name, parameter, start, part in _partitions(engine, frozen=True):
        if len(part):
            values = stored.slice(name, WEIGHT, start, len(part))
            parameter.ds_tensor.view(-1)[: len(part)].copy_(values)

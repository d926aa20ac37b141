"""AdamW, or Muon for the hidden matrices with AdamW for everything else; and how their gradients are clipped.

client = build_optimiser(objective, run.optimiser)
engine, *_ = deepspeed.initialize(model=objective, optimizer=client, ...)
if not deepspeed_clips(run.optimiser):
    clip_adam_alone(engine, run.optimiser.clip)
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blip.config import Optimiser
from blip.training.groups import parameter_groups
from blip.training.precision import has_fast_bfloat16

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


def build_optimiser(objective: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """The optimiser of a run, over the objective's trainable parameters."""
    groups = parameter_groups(objective, settings)
    if settings.name == "adamw":
        # On a CPU, too: 0.07 s a step of 100M weights, where a loop takes 0.8.
        return torch.optim.AdamW(groups, fused=True)
    from deepspeed.runtime.zero.muon import original_muon
    from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

    if not (torch.cuda.is_available() or has_fast_bfloat16("cpu")):
        # DeepSpeed orthogonalises in bfloat16 even where the CPU emulates it: 0.9 s a step of the demo, not 0.1.
        original_muon.ns_compute_dtype = lambda ns_method="gram": torch.float32
    return MuonWithAuxAdam(groups, adam_optimizer=torch.optim.AdamW)


def deepspeed_clips(settings: Optimiser) -> bool:
    """Whether DeepSpeed's own clipping is what the settings ask for.

    Beside Muon it is not: ZeRO takes the norm over, and shrinks, what Muon has made orthogonal, whose size says
    nothing about the gradient.
    """
    return settings.name == "adamw" or settings.clip_muon


def clip_adam_alone(engine: "DeepSpeedEngine", limit: float) -> None:
    """Clip AdamW's gradients to a norm of `limit` before every step; Muon's matrices have no scale to clip.

    A gradient that is not finite leaves none of them finite, and the step is skipped as without clipping.
    """
    optimiser: Any = engine.optimizer
    step = optimiser.step

    def clipped(*args: Any, **kwargs: Any) -> Any:
        gradients = _adam_gradients(optimiser)
        norm = _norm_over_ranks(gradients, divided=engine.zero_optimization_stage() > 0)
        scale = getattr(optimiser, "loss_scale", 1.0)
        factor = (limit / (norm / scale + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
        return step(*args, **kwargs)

    optimiser.step = clipped


def _adam_gradients(optimiser: Any) -> list[Tensor]:
    """What AdamW's groups have of the reduced gradients on this rank: ZeRO's partitions, or the gradients."""
    if not hasattr(optimiser, "averaged_gradients"):
        groups = [group for group in optimiser.param_groups if not group["use_muon"]]
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]
    found: list[Tensor] = []
    groups = getattr(optimiser, "bit16_groups", None) or optimiser.fp16_groups
    for number, parameters in enumerate(groups):
        if parameters and not parameters[0].use_muon:
            found += [gradient for gradient in optimiser.averaged_gradients[number] if gradient is not None]
    return found


def _norm_over_ranks(gradients: list[Tensor], divided: bool) -> Tensor:
    """The norm of all gradients, of which each rank has a part where they are divided."""
    square = torch.stack([gradient.float().square().sum() for gradient in gradients]).sum()
    if divided:
        torch.distributed.all_reduce(square)
    return square.sqrt()

"""Which number type the network computes in: bfloat16 where the hardware multiplies it, float32 where it would not.

Master weights, the momentum twin and the losses are float32 whatever is chosen here. float16, for GPUs without
bfloat16, has a dynamic loss scale; the state of that is part of the objective, so that a checkpoint holds it.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from blip.config import Precision
from blip.errors import BlipError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

FIRST_SCALE, GREATEST_SCALE = 2.0**16, 2.0**24
STEPS_TO_GROW = 2000
NEEDS_ZERO = "compute.dtype: float16 needs training.zero_stage 1, 2 or 3; give 1 in place of 0"


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether bfloat16 products run in hardware.

    A CPU without AMX or AVX512-BF16 emulates them: 10 GFLOP/s a core against 90 in float32 on a Zen 3.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def autocast_dtype(wanted: Precision, device: torch.device | str) -> torch.dtype:
    """The type of the network's products; ``auto`` is bfloat16 where that is fast."""
    if wanted == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


class LossScale(nn.Module):
    """The factor on a float16 loss that keeps small gradients above that type's smallest number.

    Halved after a step whose gradients were not finite, which is skipped on all ranks and changes no weight; doubled
    after `STEPS_TO_GROW` good ones. DeepSpeed's own, under autocast, skips the overflowing part of the weights on the
    rank that has it, or all steps for ever; so this one is told by DeepSpeed whether a step was taken, and no more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.good_steps = FIRST_SCALE, 0
        self._optimiser: Any = None

    @classmethod
    def of(cls, objective: nn.Module) -> "LossScale":
        """A scale that is part of the objective."""
        scale = cls()
        objective.add_module("loss_scale", scale)
        return scale

    def attach(self, engine: "DeepSpeedEngine") -> None:
        """Scale the engine's losses, and watch its steps.

        Raises:
            BlipError: ZeRO stage 0, where DeepSpeed does not look at what a step is about to do.
        """
        optimiser: Any = engine.optimizer
        if not hasattr(optimiser, "override_loss_scale"):
            raise BlipError(NEEDS_ZERO)
        step, self._optimiser = optimiser.step, optimiser
        optimiser.override_loss_scale(self.scale)

        def watched(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            self.update(bool(optimiser.overflow))
            optimiser.external_loss_scale = self.scale
            return result

        optimiser.step = watched

    def update(self, overflow: bool) -> None:
        """Count a step.

        Raises:
            BlipError: the gradients are not finite at any scale.
        """
        self.good_steps = 0 if overflow else self.good_steps + 1
        if overflow and self.scale <= 1:
            raise BlipError(
                "the gradients are not finite in float16 even without a loss scale; use compute.dtype: bfloat16 or "
                "float32, or a lower learning rate"
            )
        if overflow:
            self.scale /= 2
        elif self.good_steps % STEPS_TO_GROW == 0:
            self.scale = min(self.scale * 2, GREATEST_SCALE)

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.scale, self.good_steps], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.scale, self.good_steps = float(state[0]), int(state[1])
        if self._optimiser is not None:
            self._optimiser.external_loss_scale = self.scale

"""Which number type the network computes in: bfloat16 where the hardware multiplies it, float32 where it would not.

Master weights, the momentum twin and the losses are float32 whatever is chosen here.
"""

import torch

from blip.config import Precision


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
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32

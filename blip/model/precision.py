"""Which type a part of the network computes in; what is trained has float32 weights everywhere."""

import torch
from torch import Tensor


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """A region in which matrices are multiplied in `dtype`; float32 leaves everything as it is."""
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not torch.float32)


def full_precision(like: Tensor) -> torch.autocast:
    """A region without autocast: similarities divided by a small temperature need float32."""
    return torch.autocast(like.device.type, enabled=False)


def compute_dtype(like: Tensor) -> torch.dtype:
    """The type that matrices are multiplied in here: autocast's, or the tensor's own."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype

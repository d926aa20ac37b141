"""The device that a setting or an option names, and the time when it is done."""

import time
from collections.abc import Callable

import torch


def device_of(wanted: str) -> str:
    """What ``auto`` stands for, a GPU where torch finds one; or the device named."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def now(device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """The time when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()

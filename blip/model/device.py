"""The device that a setting or an option names, what it is called, its own cores, and the time when it is done."""

import time
from collections.abc import Callable

import torch

from blip.machine import processor, usable_cores


def device_of(wanted: str) -> str:
    """What ``auto`` stands for, a GPU where torch finds one; or the device named."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def use_own_cores() -> None:
    """Compute on no more cores than this process may use: torch knows no container's share."""
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def now(device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """The time when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


def machine(device: str) -> str:
    """The processor and its threads, or the GPU: what a measurement was made on."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'' if threads == 1 else 's'}"

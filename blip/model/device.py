"""The device that a setting or an option names."""

import torch


def device_of(wanted: str) -> str:
    """What ``auto`` stands for, a GPU where torch finds one; or the device named."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted

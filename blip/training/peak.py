"""What a device computes at best: the number below the line when MFU is reckoned.

    peak = device_peak(torch.device("cpu"), torch.float32)
    print(peak)                        # 0.09 TFLOP/s, measured on AMD EPYC

For a known GPU that is its data sheet's dense figure; for anything else the best of some large matrix products. What
else runs meanwhile makes those slower, so the best of all measurements is kept where a file is named for it.
"""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter

from blip.atomic import write_json
from blip.machine import processor
from blip.model.device import now

MEASURING_SECONDS = 0.4
DATA_SHEETS: dict[str, tuple[float, float]] = {  # TFLOP/s without sparsity: 16-bit types, TF32
    "B200": (2250, 1125),
    "GH200": (989, 495),
    "H200": (989, 495),
    "H100 NVL": (835, 418),
    "H100 PCIe": (756, 378),
    "H100": (989, 495),
    "A100": (312, 156),
    "A10G": (70, 35),
    "A10": (125, 62),
    "A40": (150, 75),
    "L40S": (362, 183),
    "L40": (181, 90),
    "L4": (121, 60),
    "RTX 4090": (165, 83),
    "V100": (125, 0),
    "T4": (65, 0),
}


@dataclass(frozen=True)
class Peak:
    """FLOP/s of one device, and where the number is from."""

    flops: float
    source: str

    def __str__(self) -> str:
        teraflops = self.flops / 1e12
        return f"{teraflops:{',.0f' if teraflops >= 999.5 else '.3g'}} TFLOP/s, {self.source}"


def device_peak(device: torch.device, dtype: torch.dtype, kept: Path | None = None) -> Peak:
    """The peak of a device in a type of products; takes some tenths of a second where it is measured.

    Args:
        kept: JSON with the best that was measured before, which is taken if it is better than what is measured now;
            it is written if its folder is there. None: what is measured now.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    listed = data_sheet(name, dtype) if device.type == "cuda" else None
    if listed:
        return Peak(listed, f"data sheet of {name}")
    measured = Peak(matmul_peak(dtype, device, seconds=MEASURING_SECONDS), f"measured on {name}")
    return _best(measured, _setting(name, device, dtype), kept) if kept and kept.parent.is_dir() else measured


def _setting(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """What a peak is of: ``AMD EPYC, float32, 2 threads``."""
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{name}, {str(dtype).removeprefix('torch.')}{threads}"


def _best(measured: Peak, setting: str, kept: Path) -> Peak:
    """The better one of what was measured and what is kept, which is that from now on; no training fails for it."""
    peaks = _read(kept)
    if peaks.get(setting, 0.0) >= measured.flops:
        return Peak(peaks[setting], f"{measured.source} before")
    with suppress(OSError):  # a disk that is full, or only read
        write_json(kept, peaks | {setting: measured.flops})
    return measured


def _read(kept: Path) -> dict[str, float]:
    """Peaks by setting; none where there is no file yet, or somebody has written something else into it."""
    try:
        return TypeAdapter(dict[str, float]).validate_json(kept.read_bytes())
    except (OSError, ValueError):
        return {}


def data_sheet(name: str, dtype: torch.dtype) -> float | None:
    """FLOP/s that a GPU's data sheet promises for dense products of a type; None where it is not known here."""
    sixteen_bits = dtype in (torch.bfloat16, torch.float16)
    if not sixteen_bits and not torch.backends.cuda.matmul.allow_tf32:
        return None
    if dtype == torch.bfloat16 and any(old in name for old in ("V100", "T4")):
        return None  # emulated there
    words = set(re.split(r"\W+", name))
    figures = next((found for model, found in DATA_SHEETS.items() if words.issuperset(model.split())), None)
    return figures[0 if sixteen_bits else 1] * 1e12 or None if figures else None


def matmul_peak(
    dtype: torch.dtype,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    seconds: float = float("inf"),
) -> float:
    """The best FLOP/s that a large square product reaches here, of eight, or of as many as begin within `seconds`.

    It draws from a generator of its own: a training run that measures has the same random numbers as one that does not.
    """
    side = 8192 if device.type == "cuda" else 2048
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    found: list[float] = []
    while len(found) < 8 and (len(found) < 2 or sum(found) < seconds):
        start = now(device, clock)
        torch.mm(a, b)
        found.append(now(device, clock) - start)
    return 2 * side**3 / min(found)

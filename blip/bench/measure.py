"""Time by turns, floating-point operations and memory."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Size
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from blip.model.device import now
from blip.training import memory

Call = Callable[[], Any]


def by_turns(
    sides: Mapping[str, Call],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call; the sides take turns, so that what slows the machine slows both."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            seconds[name].append(timed(sides[name], device, clock))
    return seconds


def timed(call: Call, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, to the end of what it started on the device."""
    start = now(device, clock)
    call()
    return now(device, clock) - start


def counted_flops(call: Call) -> int:
    """Floating-point operations of the matrix products, convolutions and attention in one call."""
    with FlopCounterMode(display=False, custom_mapping=CPU_PRODUCTS) as counter:
        call()
    return counter.get_total_flops()


def peak_bytes(target: Callable[..., None], *arguments: Any) -> int:
    """The most memory that `target(*arguments)` held in a fresh process: resident, or on the GPU.

    Args:
        target: a function at module level; it returns the bytes of the GPU, or 0 when it ran on the CPU.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(send, target, arguments))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process that measures memory ended with code {process.exitcode}") from None
    finally:
        process.join()


def _report_peak(send: Any, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    target(*arguments)
    send.send(memory.peak_bytes())


def _attention_flops(query: Size, key: Size, value: Size, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward_flops(gradient: Size, query: Size, key: Size, value: Size, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _packed_flops(x: Size, weight: Size, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * weight[0]


CPU_PRODUCTS: dict[Any, Callable[..., int]] = {  # torch counts a GPU's attention and ordinary products only
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
}
if torch.backends.mkldnn.is_available():
    CPU_PRODUCTS[torch.ops.mkldnn._linear_pointwise] = _packed_flops


def median_ratio(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> float:
    """How many times faster `ours` is: the median over the turns."""
    return statistics.median(b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True))

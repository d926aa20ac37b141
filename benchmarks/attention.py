"""Which of torch's attention kernels is the quickest for the image encoder's tokens: forward alone, and with backward.

    python benchmarks/attention.py                         # 480 images of 197 tokens, bfloat16, on a GPU
    python benchmarks/attention.py --device cpu --images 8 --dtype float32

Prints Markdown, with the one that torch chooses by itself first; a kernel that does not take such tensors is said to.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import date

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS = {
    "chosen by torch": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "products and softmax": SDPBackend.MATH,
}


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """The median time of a piece of work, after two that do not count."""
    times: list[float] = []
    for number in range(repeats + 2):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def measure(
    within: Callable[[], AbstractContextManager[object]], qkv: tuple[Tensor, Tensor, Tensor], repeats: int
) -> tuple[float, float]:
    """Seconds of the forward pass alone, and of forward and backward together."""
    device, gradient = qkv[0].device.type, torch.ones_like(qkv[0])

    def forward() -> None:
        with within(), torch.no_grad():
            F.scaled_dot_product_attention(*qkv)

    def both() -> None:
        with within():
            F.scaled_dot_product_attention(*qkv).backward(gradient)

    return seconds(forward, device, repeats), seconds(both, device, repeats)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--tokens", type=int, default=197)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    chosen = parser.parse_args()
    shape = (chosen.images, chosen.tokens, 3, chosen.heads, 64)
    packed = torch.randn(shape, device=chosen.device, dtype=getattr(torch, chosen.dtype))
    q, k, v = packed.permute(2, 0, 3, 1, 4).unbind()  # views, as the encoder's one product gives them
    qkv = q.requires_grad_(), k.requires_grad_(), v.requires_grad_()
    machine = torch.cuda.get_device_name() if chosen.device == "cuda" else "CPU"
    print(f"{machine}, torch {torch.__version__}, {date.today()}: {list(q.shape)} {chosen.dtype}\n")
    print("| kernel | forward | forward and backward |\n|---|---|---|")
    for name, kernel in KERNELS.items():
        try:
            found = measure(
                lambda kernel=kernel: sdpa_kernel(kernel) if kernel else nullcontext(), qkv, chosen.repeats
            )
        except RuntimeError:
            print(f"| {name} | does not take them | |")
            continue
        print("| " + " | ".join([name, *(f"{1000 * one:.2f} ms" for one in found)]) + " |", flush=True)


if __name__ == "__main__":
    main()

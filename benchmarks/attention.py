"""Which attention kernel is the quickest for the image encoder's tokens: forward alone, and with backward.

    python benchmarks/attention.py                         # 480 images of 197 tokens, bfloat16, on a GPU
    python benchmarks/attention.py --device cpu --images 8 --dtype float32

Prints Markdown: torch's kernels, the one that it chooses by itself first, the plain operations of
`blip.model.attention`, and our kernel for short rows, which needs Triton. A kernel that does not take such tensors is
said to.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import date

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from blip.model.attention import short_rows, three_operations

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

KERNELS = {
    "chosen by torch": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "torch's plain operations": SDPBackend.MATH,
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


def kernels(device: str, images: int, tokens: int) -> Iterator[tuple[str, Attention]]:
    """Attention of ``[B, H, N, C]``, by the name of what computes it."""
    for name, kernel in KERNELS.items():

        def attend(q: Tensor, k: Tensor, v: Tensor, kernel: SDPBackend | None = kernel) -> Tensor:
            with sdpa_kernel(kernel) if kernel else nullcontext():
                return F.scaled_dot_product_attention(q, k, v)

        yield name, attend
    yield "three plain operations", three_operations
    if device == "cuda":
        yield "the same, compiled", torch.compile(three_operations)
    if short_rows is not None and device == "cuda":
        yield "our own for short rows", of_short_rows(images, tokens)


def of_short_rows(images: int, tokens: int) -> Attention:
    """The kernel of packed texts with an image's tokens for a row; `blip.model.vision` does not use it."""
    assert short_rows is not None
    own = short_rows.attend
    starts = torch.arange(images + 1, dtype=torch.int32, device="cuda") * tokens

    def of_images(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        return (
            own(q, k, v, starts, starts, tokens, causal=False).unflatten(0, (images, tokens)).transpose(1, 2)
        )

    return of_images


def measure(attend: Attention, qkv: tuple[Tensor, Tensor, Tensor], repeats: int) -> tuple[float, float]:
    """Seconds of the forward pass alone, and of forward and backward together."""
    device, gradient = qkv[0].device.type, torch.ones_like(qkv[0])

    def forward() -> None:
        with torch.no_grad():
            attend(*qkv)

    def both() -> None:
        attend(*qkv).backward(gradient)

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
    for name, attend in kernels(chosen.device, chosen.images, chosen.tokens):
        try:
            found = measure(attend, qkv, chosen.repeats)
        except RuntimeError:
            print(f"| {name} | does not take them | |")
            continue
        print("| " + " | ".join([name, *(f"{1000 * one:.2f} ms" for one in found)]) + " |", flush=True)


if __name__ == "__main__":
    main()

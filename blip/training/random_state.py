"""The random generators of a rank, as tensors of a checkpoint.

random_state()                                   # {"random|torch": uint8 [5056], "random|cuda": ...}
set_random_state(stored, otherwise="7/200/3")    # a rank that has no state is seeded from the text

Python's and numpy's global generators are not among them: all draws with either are from generators made of seeds.
"""

import hashlib

import torch
from torch import Tensor

from blip.training.tensors import Stored

CPU, CUDA = "random|torch", "random|cuda"


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators on the CPU and on this rank's GPU, if it has one."""
    states = {CPU: torch.get_rng_state()}
    return states | ({CUDA: torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_state(stored: Stored | None, otherwise: str) -> None:
    """Go on with a stored state; without one, seed all generators from a text."""
    if stored is None or not stored.has(CPU):
        torch.manual_seed(
            int.from_bytes(hashlib.sha256(otherwise.encode()).digest()[:8], "little", signed=True)
        )
        return
    torch.set_rng_state(stored.whole(CPU))
    if torch.cuda.is_available() and stored.has(CUDA):
        torch.cuda.set_rng_state(stored.whole(CUDA))

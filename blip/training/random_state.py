"""The random generators of a rank, as tensors: to go back to within a step, or to keep in a checkpoint.

state = random_state(device)                            # {"random|torch": uint8 [5056], "random|cuda": ...}
set_random_state(device, state)
restore_random_state(device, stored, otherwise="7/200/3")    # a rank that has no state is seeded from the text

Python's and numpy's global generators are not among them: all draws with either are from generators made of seeds.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from blip.training.tensors import Stored

CPU, CUDA = "random|torch", "random|cuda"


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generators: the CPU's, and the device's where it has its own."""
    states = {CPU: torch.get_rng_state()}
    return states | ({CUDA: torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Go back to where `random_state` was called; a device whose state is not among them stays as it is."""
    torch.set_rng_state(states[CPU])
    if device.type == "cuda" and CUDA in states:
        torch.cuda.set_rng_state(states[CUDA], device)


def restore_random_state(device: torch.device, stored: Stored | None, otherwise: str) -> None:
    """Go on with a stored state; without one, seed all generators from a text."""
    if stored is None or not stored.has(CPU):
        torch.manual_seed(
            int.from_bytes(hashlib.sha256(otherwise.encode()).digest()[:8], "little", signed=True)
        )
        return
    set_random_state(device, {name: stored.whole(name) for name in (CPU, CUDA) if stored.has(name)})

"""Numbers of the device that the host needs, and other work for the device in the meantime.

sizes = Readback(tokens, longest)       # the copy begins
...                                     # queue work that does not need them
tokens, longest = sizes.wait()
"""

import torch
from torch import Tensor


class Readback:
    """A copy to the host that has begun; of a CPU's tensors nothing is waited for."""

    def __init__(self, *numbers: Tensor) -> None:
        values = torch.stack(numbers).long()
        self._event = torch.cuda.Event() if values.is_cuda else None
        self._host = values.to("cpu", non_blocking=True)
        if self._event:
            self._event.record(torch.cuda.current_stream(values.device))

    def wait(self) -> list[int]:
        """The numbers, once the device has come to them."""
        if self._event:
            self._event.synchronize()
        return self._host.tolist()

"""One answer for all ranks, as whether to stop: yes if any of them says so.

    vote = Vote()
    if vote(stop.is_set()):        # the same on every rank
        save()

A request to stop may reach one rank only, or each in another step; were each to act by itself, one would wait for the
others in the checkpoint and they for it in the next step. It is one byte between the hosts, beside the GPUs' queue.
"""

from datetime import timedelta

import torch
import torch.distributed as dist


class Vote:
    """Every rank makes one, and calls it equally often.

    Args:
        wait: how long a rank waits for the others; None: gloo's half an hour.
    """

    def __init__(self, wait: timedelta | None = None) -> None:
        self._group = None
        if dist.is_initialized() and dist.get_world_size() > 1:
            # Of the hosts: a vote waits for no GPU.
            self._group = dist.new_group(backend="gloo", timeout=wait)

    def __call__(self, yes: bool) -> bool:
        """Whether any rank says yes; waits until all have said."""
        if self._group is None:
            return yes
        found = torch.tensor(yes, dtype=torch.uint8)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._group)
        return bool(found)

"""One answer for all ranks, as whether to stop: yes if any of them says so.

    vote = Vote()
    if vote(stop.is_set()):        # the same on every rank
        save()

A request to stop may reach one rank only, or each in another step; were each to act by itself, one would wait for the
others in the checkpoint and they for it in the next step. It is one byte between the hosts, beside the GPUs' queue.
"""

import torch
import torch.distributed as dist


class Vote:
    """Every rank makes one, and calls it equally often."""

    def __init__(self) -> None:
        self._group = None
        if dist.is_initialized() and dist.get_world_size() > 1:
            self._group = dist.new_group(backend="gloo")  # of the hosts: a vote waits for no GPU

    def __call__(self, yes: bool) -> bool:
        """Whether any rank says yes; waits until all have said."""
        if self._group is None:
            return yes
        found = torch.tensor(yes, dtype=torch.uint8)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._group)
        return bool(found)

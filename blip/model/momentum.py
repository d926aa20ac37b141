"""The momentum twin and its queues (ALBEF, MoCo; BLIP paper section 3.2)."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip.model.blip import BlipNetwork
from blip.model.ranks import gather, whole
from blip.model.text import TextTransformer


class MomentumTwin(nn.Module):
    """An exponential moving average of the towers and projections, always in float32, never trained.

    An EMA of 0.995 kept in bfloat16 would not move at all: its step is below that type's resolution. So the average
    is float32 beside weights of any type. A vision tower that is not trained is its own average: the twin then holds
    none and takes the network's image tokens. The twin sees all patches where patch dropout leaves the network some.
    Its weights are buffers, so that ZeRO 3, which divides parameters among the ranks, leaves them whole.
    """

    def __init__(self, network: BlipNetwork, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.shares_vision = not any(p.requires_grad for p in network.vision.parameters())
        self.names = TWINNED[1:] if self.shares_vision else TWINNED
        self.parts = nn.ModuleDict({name: copy.deepcopy(getattr(network, name)) for name in self.names})
        for layer in cast(TextTransformer, self.parts["text_encoder"]).layers:
            del layer.cross_attention  # the twin reads texts alone
        self.requires_grad_(False).float()
        _as_buffers(self.parts)

    @torch.no_grad()
    def update(self, network: BlipNetwork) -> None:
        """Move every weight a share of ``1 - decay`` towards the network, in one fused call."""
        weights = {name: dict(getattr(network, name).named_parameters()) for name in self.names}
        pairs = [
            (own, weights[part][name])
            for part in self.names
            for name, own in self.parts[part].named_buffers()
        ]
        own: list[Tensor] = [average for average, _ in pairs]
        with whole([weight for _, weight in pairs]):
            theirs = [weight.detach().float() for _, weight in pairs]
            torch._foreach_lerp_(own, theirs, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def embed(
        self,
        images: Tensor,
        tokens_BND: Tensor,
        ids_BT: Tensor,
        mask_BT: Tensor,
        count: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Image and text features ``[B, P]``, unit length, float32.

        Args:
            tokens_BND: what the network's own vision tower made of the images.
            count: of the texts' tokens, where the host knows it.
        """
        tokens = (
            tokens_BND.float()
            if self.shares_vision
            else self.parts["vision"](images.float(), first_only=True)
        )
        image = self.parts["vision_projection"](tokens[:, 0]).float()
        states = self.parts["text_encoder"](ids_BT, mask_BT, first_only=True, tokens=count)
        text = self.parts["text_projection"](states[:, 0]).float()
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def _as_buffers(module: nn.Module) -> None:
    """Make every parameter a buffer of the same name, so that a state dict stays what it was."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())


TWINNED = ("vision", "text_encoder", "vision_projection", "text_projection")


class FeatureQueue(nn.Module):
    """The last `size` momentum features of both modalities with their groups; takes any batch size.

    It holds those of all ranks and is the same on each, as published. So one rank's checkpoint is every rank's.
    """

    image: Tensor
    text: Tensor
    group: Tensor
    position: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("image", F.normalize(torch.randn(size, width), dim=-1))
        self.register_buffer("text", F.normalize(torch.randn(size, width), dim=-1))
        self.register_buffer("group", torch.full((size, 2), -1, dtype=torch.int64))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, image_BP: Tensor, text_BP: Tensor, group_B2: Tensor) -> None:
        """Overwrite the oldest rows with the features of all ranks, in their order, wrapping around.

        Of more rows than the queue has the last stay; a queue of size 0 stays empty. A row that is not finite
        leaves the old one where it is. Every rank calls this, with
        as many rows as the others.
        """
        if not self.size:
            return
        image_BP, text_BP, group_B2 = gather(image_BP), gather(text_BP), gather(group_B2)
        image_BP, text_BP, group_B2 = (x[-self.size :] for x in (image_BP, text_BP, group_B2))
        rows = (self.position + torch.arange(len(group_B2), device=group_B2.device)) % self.size
        good = (image_BP.isfinite().all(dim=1) & text_BP.isfinite().all(dim=1))[:, None]
        for name, new in (("image", image_BP), ("text", text_BP), ("group", group_B2)):
            queue = getattr(self, name)
            queue.index_copy_(0, rows, torch.where(good, new.to(queue.dtype), queue[rows]))
        self.position.add_(len(group_B2)).remainder_(self.size)

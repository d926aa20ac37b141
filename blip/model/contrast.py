"""ITC over several batches at once: features that are compared, and the gradient that each batch has of it.

features = [objective.features(batch) for batch in batches]      # graphs are dropped
for batch, contrast in zip(batches, objective.contrast(features)):
    objective(batch, contrast)["loss"].backward()                # one graph at a time
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Unit vectors of P pairs.

    Attributes:
        image, text: ``[P, D]``, of the network.
        distractors: ``[Q, D]``, of texts that match no image; Q may be 0.
        keys: image and text vectors ``[P, D]`` of the momentum twin; None without one.
        group: ``[P, 2]``, which pairs are no negatives of each other.
    """

    image: Tensor
    text: Tensor
    distractors: Tensor
    keys: tuple[Tensor, Tensor] | None
    group: Tensor

    @property
    def learnt(self) -> tuple[Tensor, Tensor, Tensor]:
        """What has a gradient."""
        return self.image, self.text, self.distractors

    def leaves(self) -> "Features":
        """The same without the graph that made them, to take gradients by."""
        return replace(self, image=leaf(self.image), text=leaf(self.text), distractors=leaf(self.distractors))

    @classmethod
    def joined(cls, parts: Sequence["Features"]) -> "Features":
        """Those of several batches as of one."""
        image, text, distractors = (torch.cat(v) for v in zip(*(one.learnt for one in parts), strict=True))
        keys = [one.keys for one in parts if one.keys is not None]
        both = (
            (torch.cat([pair[0] for pair in keys]), torch.cat([pair[1] for pair in keys])) if keys else None
        )
        return cls(image, text, distractors, both, torch.cat([one.group for one in parts]))


@dataclass(frozen=True)
class Contrast:
    """ITC of a whole step, seen from one of its n batches, whose losses are averaged.

    Attributes:
        loss: ITC over all batches, without a graph.
        gradients: of n times the loss by this batch's image, text and distractor features.
        scalars: of the loss by the temperature, and by the sigmoid's bias where there is one.
        keys: this batch's own.
    """

    loss: Tensor
    gradients: Sequence[Tensor]
    scalars: Sequence[Tensor]
    keys: tuple[Tensor, Tensor] | None

    def loss_of(self, features: Features, temperature: Tensor, bias: Tensor | None) -> Tensor:
        """The loss, with this batch's part of the gradient."""
        scalars = (temperature,) if bias is None else (temperature, bias)
        values, gradients = (*features.learnt, *scalars), (*self.gradients, *self.scalars)
        part = torch.stack([(v * g).sum() for v, g in zip(values, gradients, strict=True)]).sum()
        return self.loss + part - part.detach()


def leaf(x: Tensor) -> Tensor:
    """A copy to take a gradient by, with no graph behind it."""
    return x.detach().clone().requires_grad_()

"""What similar pictures of the pool say of a text: how much likelier it is under them than under any picture.

    neighbours = Neighbours.of(identity, pictures_RP, texts_RP)
    neighbours.support(pictures_NP, own_NR, texts_MP, image_index)       # log-ratios, float32 [M]

A filter that has learnt from human captions takes for wrong what no human ever named. The pool has such names: the same
thing is in it several times, and its right texts agree where wrong ones seldom do. Both sides are kernels over one
filter's embeddings, less their mean: a picture's text counts by how like the pictures are, and for a text by how like
the texts are, both exp(cosine / 0.1). A picture is never asked about itself, nor is a copy of
it: it often came with the same wrong text.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import normalize

from blip.capfilt.identity import Identity

WIDTH = 0.1  # of both kernels, in cosines


@dataclass(frozen=True)
class Neighbours:
    """R pictures of the pool, each with its text, as one filter embeds them.

    Attributes:
        identity: which pictures they are.
        pictures, texts: unit vectors, less their mean, ``[R, P]``.
        centres: the means, of pictures and of texts, ``[2, P]``.
    """

    identity: Identity
    pictures: Tensor
    texts: Tensor
    centres: Tensor

    @classmethod
    def of(cls, identity: Identity, pictures_RP: Tensor, texts_RP: Tensor) -> "Neighbours":
        """From embeddings as the filter makes them."""
        centres = torch.stack((pictures_RP.mean(0), texts_RP.mean(0)))
        return cls(identity, _about(pictures_RP, centres[0]), _about(texts_RP, centres[1]), centres)

    @classmethod
    def read(cls, path: Path, number: int, device: torch.device) -> "Neighbours | None":
        """Those of filter `number`, from what `blip.capfilt.embedding` wrote; None where no picture has a text."""
        with safe_open(path, "pt", device=str(device)) as file:
            if not file.keys():
                return None
            pictures, texts = (file.get_tensor(f"{side}.{number}") for side in ("pictures", "texts"))
            kept = [file.get_tensor(name).cpu() for name in ("keys", "hashes", "thumbnails", "cells")]
            # Copied, else the file stays mapped, and on NFS in its folder
            return cls.of(Identity.from_tensors(*kept), pictures, texts)

    def own(self, asked: Identity) -> Tensor:
        """Which of the R are a picture itself or a copy of it, bool ``[N, R]``."""
        return torch.from_numpy(asked.same(self.identity)).to(self.pictures.device)

    def support(self, pictures_NP: Tensor, own_NR: Tensor, texts_MP: Tensor, image_index: Tensor) -> Tensor:
        """Log-ratios ``[M]`` of text i for picture ``image_index[i]``; 0 where there is no other picture to ask.

        Args:
            own_NR: by `own`.
        """
        pictures, texts = _about(pictures_NP, self.centres[0]), _about(texts_MP, self.centres[1])
        alike_NR = (pictures @ self.pictures.T / WIDTH).masked_fill(own_NR, -torch.inf)
        same_MR = (texts @ self.texts.T / WIDTH).masked_fill(own_NR[image_index], -torch.inf)
        theirs = (alike_NR.log_softmax(1)[image_index] + same_MR).logsumexp(1)
        anyones = same_MR.logsumexp(1) - (~own_NR).sum(1)[image_index].log()
        return (theirs - anyones).nan_to_num(0.0)


def _about(side: Tensor, centre: Tensor) -> Tensor:
    """Unit vectors from a centre."""
    return normalize(side - centre, dim=-1)

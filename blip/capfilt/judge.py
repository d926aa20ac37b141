"""What the filter says of a text and its image: one probability, from its ITM head, its embeddings or both.

    jury = Jury([Judge.of(filter_, "both", human_texts)])
    verdicts = jury(look(pictures, jury.wanted), keys, texts, image_index)

``itm`` is the matching head, as published. ``itc`` asks the embeddings how much better the text fits the image than
human texts drawn at random do: the log-odds are cosine / temperature less the log-mean-exp of that over the human
texts. ``both`` is the mean of the two log-odds: they err on different pairs. Several filters are averaged likewise, and
several views of a picture: the whole of it, and its middle. Two more can have a say, each added to the log-odds: the
captioner by how likely it finds the text (what nobody would write under a picture, such as a file name, it finds
unlikely), and similar pictures of the pool by how much likelier it is among theirs (`blip.capfilt.neighbours`). These
are not asked about what a captioner has written, whose mistakes are the names of similar things.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from blip.capfilt.identity import LOOK, Identity
from blip.capfilt.neighbours import Neighbours
from blip.capfilt.pictures import View, Views
from blip.config import FilterHead
from blip.errors import BlipError
from blip.model.api import Blip

REFERENCES = 2000


class Verdicts(NamedTuple):
    """Of N texts, on the CPU, each float32 ``[N]``; the probability is float64, or many would be 1.

    Attributes:
        itm: probability of the ITM head.
        itc: cosine.
        neighbours, likelihood: what similar pictures and the captioner have added to the log-odds; 0 where not asked.
        probability: decides; the filter's own log-odds are its less these two.
    """

    itm: Tensor
    itc: Tensor
    neighbours: Tensor
    likelihood: Tensor
    probability: Tensor


class Opinion(NamedTuple):
    """One filter's, of N texts: log-odds of the ITM head, cosine, its own log-odds, what similar pictures add."""

    itm: Tensor
    itc: Tensor
    own: Tensor
    neighbours: Tensor


@dataclass(frozen=True)
class Judge:
    """A filter, the head it decides by, and the embeddings ``[R, P]`` of the texts it compares with.

    Attributes:
        neighbours: pictures of the pool as it embeds them, whose support for a text counts `trust` times.
    """

    model: Blip
    head: FilterHead
    references: Tensor | None
    neighbours: Neighbours | None = None
    trust: float = 0.0

    @classmethod
    def of(
        cls,
        model: Blip,
        head: FilterHead,
        human_texts: Iterable[str],
        neighbours: Neighbours | None = None,
        trust: float = 0.0,
    ) -> "Judge":
        """A judge; at most `REFERENCES` of the human texts are compared with, and none is read for ``itm``.

        Raises:
            BlipError: the embeddings are to decide and there is no human text to compare with.
        """
        if head == "itm":
            return cls(model, head, None, neighbours, trust)
        texts = sorted({text for text in human_texts if text})
        if not texts:
            raise BlipError(
                f"capfilt.head {head} compares with human texts and there are none; itm needs none"
            )
        step = math.ceil(len(texts) / REFERENCES)
        return cls(model, head, model.embed_texts(texts[::step]), neighbours, trust)

    def __call__(
        self,
        tokens_NTD: Tensor,
        own_NR: Tensor | None,
        texts: Sequence[str],
        image_index: Tensor,
        written: Tensor | None = None,
    ) -> Opinion:
        """Judge text i with image ``image_index[i]`` of those whose tokens these are.

        Args:
            own_NR: which of the neighbours each image is itself; None: none of them is asked.
        """
        itm = self.model.score_pairs(tokens_NTD, image_index, texts, torch.arange(len(texts))).cpu()
        images, embedded = self.model.project_images(tokens_NTD), self.model.embed_texts(texts)
        index = image_index.to(images.device)
        itc = (images[index] * embedded).sum(1).cpu()
        own, support = self._log_odds(itm, itc, images, image_index), torch.zeros(len(texts))
        if self.neighbours and own_NR is not None:
            support = self.neighbours.support(images, own_NR, embedded, index).cpu()
            support = support if written is None else support.masked_fill(written, 0)
        return Opinion(itm, itc, own, self.trust * support)

    def _log_odds(self, itm: Tensor, itc: Tensor, images_NP: Tensor, image_index: Tensor) -> Tensor:
        if self.references is None:
            return itm
        temperature = self.model.temperature
        usual = (images_NP @ self.references.T / temperature).logsumexp(1) - math.log(len(self.references))
        contrast = itc / temperature - usual.cpu()[image_index]
        return contrast if self.head == "itc" else (itm + contrast) / 2


@dataclass(frozen=True)
class Jury:
    """Filters that decide together, by the mean of their log-odds over the views; one is a jury, too.

    Attributes:
        views: shares of both sides, about the middle, of each picture that the filters see.
        captioner: whose mean log-likelihood of a text's tokens, `likelihood` times, is added to the log-odds.
    """

    judges: Sequence[Judge]
    views: Sequence[float] = (1.0,)
    captioner: Blip | None = None
    likelihood: float = 0.0

    def __call__(
        self,
        pictures: Views,
        keys: Sequence[str],
        texts: Sequence[str],
        image_index: Tensor,
        written: Tensor | None = None,
        tokens_NTD: Tensor | None = None,
    ) -> Verdicts:
        """Judge text i with picture ``image_index[i]``; each view is encoded once by each filter.

        Args:
            pictures: in the views that are `wanted`.
            written: which of the texts a captioner has written, bool ``[M]``; none of them, unless told.
            tokens_NTD: the captioner's of the pictures, where it has encoded them already.
        """
        near, sums = self.neighbours, torch.zeros(len(Opinion._fields), len(texts))
        own_NR = near.own(Identity.of(keys, pictures[LOOK])) if near else None
        for share in self.views:
            for judge in self.judges:
                seen = pictures[View(judge.model.image_size, share)]
                tokens = judge.model.encode_images(seen, len(keys))
                sums += torch.stack(judge(tokens, own_NR, texts, image_index, written))
        itm, itc, own, neighbours = sums / (len(self.views) * len(self.judges))
        likelihood = torch.zeros(len(texts))
        if self.asked:
            if tokens_NTD is None:
                tokens_NTD = self.asked.encode_images(pictures[View(self.asked.image_size)], len(keys))
            likelihood = self.likelihood * self.asked.likelihood(tokens_NTD, image_index, texts).cpu()
        return Verdicts(
            itm.sigmoid(), itc, neighbours, likelihood, (own + neighbours + likelihood).double().sigmoid()
        )

    @property
    def asked(self) -> Blip | None:
        """The captioner, if it has a say."""
        return self.captioner if self.likelihood else None

    @property
    def neighbours(self) -> Neighbours | None:
        """Similar pictures, if they have a say: the same ones for every filter, here as the first embeds them."""
        return self.judges[0].neighbours

    @property
    def wanted(self) -> frozenset[View]:
        """The views of each picture that all of them together look at."""
        asked = [View(self.asked.image_size)] if self.asked else []
        asked += [LOOK] if self.neighbours else []
        sizes = {judge.model.image_size for judge in self.judges}
        return frozenset([*asked, *(View(size, share) for size in sizes for share in self.views)])

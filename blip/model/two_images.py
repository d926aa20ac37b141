"""A model for NLVR2 as people use it: is a statement true of two images?

model = TwoImages.open("models/nlvr")
model.judge(["left.jpg"], ["right.jpg"], ["both pictures show a dog"])      # tensor([0.93]), the probability
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from blip.data.images import ImageInput, preprocess
from blip.data.text import Tokenizer, clean_statement
from blip.data.vocabulary import find_tokenizer
from blip.errors import BlipError
from blip.model.batch import counted
from blip.model.config_json import ModelCard
from blip.model.inference import keep_in, pack
from blip.model.matching import CONTEXT_BYTES, context_bytes
from blip.model.nlvr import NlvrNetwork, load_nlvr
from blip.model.precision import autocast
from blip.model.public import open_public

BLOCK = 64  # images that are encoded at once


class TwoImages:
    """A network with its tokenizer, ready for inference, its matrices in `dtype` (`keep_in`)."""

    def __init__(
        self,
        network: NlvrNetwork,
        tokenizer: Tokenizer,
        max_tokens: int,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.network = network.to(device).eval()
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)
        keep_in(self.network, self.dtype)

    @classmethod
    def open(cls, directory: Path | str, device: str = "cpu", dtype: str = "float32") -> "TwoImages":
        """Open a model directory, or a public ``.pth`` checkpoint. Raises BlipError if it is none of an NLVR2 model."""
        public = Path(directory).is_file()
        network, tokenizer, card = (_open_public if public else _open_directory)(Path(directory))
        model = cls(network, tokenizer, card.max_tokens, device, dtype)
        pack(model.network)
        return model

    @torch.inference_mode()
    def judge(
        self,
        left: Sequence[ImageInput],
        right: Sequence[ImageInput],
        statements: Sequence[str],
        pair: Sequence[int] | None = None,
    ) -> Tensor:
        """The probability of being true, float32 ``[Q]``, of statements about P pairs of images.

        Args:
            left, right: P images each.
            pair: which pair each statement is about; None where statement i is about pair i.

        Raises:
            BlipError: the numbers do not go together.
        """
        pairs = list(range(len(left)) if pair is None else pair)
        if len(left) != len(right) or len(pairs) != len(statements):
            raise BlipError(
                f"{len(left)} left and {len(right)} right images, {len(statements)} statements about {len(pairs)} "
                "pairs: every left image needs a right one, and every statement a pair"
            )
        if not statements:
            return torch.empty(0)
        ids, mask = self.tokenizer.encode([clean_statement(text) for text in statements], self.max_tokens)
        ids[:, 0] = self.tokenizer.enc
        images, size = [*left, *right], self.network.config.vision.image_size
        with autocast(self.device, self.dtype):
            blocks = (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))
            tokens = torch.cat(
                [self.network.vision(preprocess(some, size).to(self.device)) for some in blocks]
            )
            logits = self._logits(tokens, ids, mask, torch.tensor(pairs))
        return logits.softmax(-1)[:, 1].cpu()

    def _logits(self, tokens_PND: Tensor, ids_QT: Tensor, mask_QT: Tensor, pair_Q: Tensor) -> Tensor:
        """`NlvrNetwork.judge`, of as many statements at once as the keys and values of their images fit."""
        logits_Q2 = torch.empty(len(ids_QT), 2, device=self.device)
        of_a_pair = 2 * context_bytes(self.network.config.text, tokens_PND)
        for rows in pair_Q.argsort(stable=True).split(max(1, CONTEXT_BYTES // of_a_pair)):
            pairs, place = pair_Q[rows].unique_consecutive(return_inverse=True)
            tokens = tokens_PND[torch.cat((pairs, pairs + len(tokens_PND) // 2)).to(self.device)]
            ids, mask = ids_QT[rows].to(self.device), mask_QT[rows].to(self.device)
            found = self.network.judge(tokens, ids, mask, place.to(self.device), counted(mask_QT[rows]))
            logits_Q2[rows.to(self.device)] = found
        return logits_Q2


def _open_directory(directory: Path) -> tuple[NlvrNetwork, Tokenizer, ModelCard]:
    network, card = load_nlvr(directory)
    return network, Tokenizer.from_directory(directory), card


def _open_public(path: Path) -> tuple[NlvrNetwork, Tokenizer, ModelCard]:
    opened = open_public(path)
    if not isinstance(opened.network, NlvrNetwork):
        raise BlipError(f"{path} is a model for {opened.card.task}, not for NLVR2; blip.load opens it")
    vocabulary = opened.network.config.text.vocabulary
    return opened.network, find_tokenizer(vocabulary, None, path.parent), opened.card

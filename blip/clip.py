"""A CLIP model of `transformers` behind the embedding interface of `Blip`, to compare with.

clip = blip.load_clip("openai/clip-vit-base-patch32")
clip.match(["cat.jpg"], ["a photo of a cat", "a photo of a dog"])   # cosines [1, 2]

The network is CLIPModel of `transformers`, opened from safetensors only; pictures are prepared here, as the
directory's image processor says.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blip.data.image_processor import ImageProcessor
from blip.errors import BlipError
from blip.model.config_json import read_values
from blip.model.inference import keep_in
from blip.model.precision import autocast
from blip.model.several import several_images, several_texts

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


class Clip:
    """A CLIP model with its tokenizer, ready for inference.

    Images are file paths, bytes, PIL images or arrays, or a normalised tensor ``[N, 3, S, S]``.

    Attributes:
        network: a `transformers.CLIPModel`.
        tokenizer: a `transformers.CLIPTokenizer`.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        image_processor: ImageProcessor,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)
        self.network = network.to(self.device).eval()
        keep_in(self.network, self.dtype)
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.image_size = network.config.vision_config.image_size
        self.max_tokens = network.config.text_config.max_position_embeddings

    @classmethod
    def open(cls, directory: Path | str, device: str = "cpu", dtype: str = "float32") -> "Clip":
        """Open a model directory as `transformers` saves it.

        Raises:
            BlipError: it holds no CLIP, has no safetensors weights, tokenizer or image processor, or weights that
                are missing or of another shape; each is named.
        """
        directory = Path(directory)
        _check_files(directory)
        processor, tokenizer, network = (
            ImageProcessor.read(directory),
            _tokenizer(directory),
            _network(directory),
        )
        vocabulary = network.config.text_config.vocab_size
        if len(tokenizer) > vocabulary:
            raise BlipError(
                f"{directory}: the tokenizer has {len(tokenizer)} entries, the network only {vocabulary}; they are "
                "of different models"
            )
        return cls(network, tokenizer, processor, device, dtype)

    @property
    def temperature(self) -> float:
        """The learned temperature that cosines are divided by."""
        return self.network.logit_scale.exp().reciprocal().item()

    def embed_images(self, images: Any, batch_size: int = 64) -> Tensor:
        """Unit vectors ``[N, P]`` of images, in float32."""

        def features(batch: Any) -> Tensor:
            pixels = batch if isinstance(batch, Tensor) else self.image_processor(list(batch))
            return self.network.get_image_features(pixels.to(self.device)).pooler_output

        return self._embed(several_images(images), batch_size, features)

    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Unit vectors ``[N, P]`` of texts, in float32; what is longer than CLIP's positions is cut."""

        def features(batch: Sequence[str]) -> Tensor:
            tokens = self.tokenizer(
                list(batch), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
            ).to(self.device)
            return self.network.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output

        return self._embed(several_texts(texts), batch_size, features)

    def cut_texts(self, texts: Sequence[str]) -> int:
        """How many texts are longer than CLIP's positions, and lose their end."""
        longest = self.max_tokens + 1
        rows = self.tokenizer(list(texts), truncation=True, max_length=longest).input_ids if texts else []
        return sum(len(row) == longest for row in rows)

    def match(self, images: Any, texts: Sequence[str], head: Literal["itc"] = "itc") -> Tensor:
        """The cosine of every image and every text, ``[N, M]``.

        Raises:
            BlipError: `head` is not ``itc``; CLIP has no other.
        """
        if head != "itc":
            raise BlipError(f"CLIP has no {head!r} head: it compares embeddings only, head='itc'")
        return self.embed_images(images) @ self.embed_texts(texts).T

    @torch.inference_mode()
    def _embed(self, items: Any, batch_size: int, features: Callable[[Any], Tensor]) -> Tensor:
        parts = [torch.empty(0, self.network.config.projection_dim, device=self.device)]
        for start in range(0, len(items), batch_size):
            with self._autocast():
                part = features(items[start : start + batch_size])
            parts.append(F.normalize(part.float(), dim=-1))
        return torch.cat(parts)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.dtype)


def _check_files(directory: Path) -> None:
    kind = read_values(directory).get("model_type")
    if kind != "clip":
        other = "; blip.load opens it" if kind == "blip" else ""
        raise BlipError(f"{directory}: model_type is {kind!r}, not 'clip'{other}")
    if not (directory / WEIGHTS).is_file():
        raise BlipError(
            f"{directory} has no {WEIGHTS}; pickled weights are not opened, save the model as safetensors"
        )
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise BlipError(f"{directory} has no tokenizer: neither {' nor '.join(TOKENIZER_FILES)} is there")


def _network(directory: Path) -> Any:
    from transformers import CLIPModel
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would list is in the error below
    try:
        opened: Any = CLIPModel.from_pretrained(
            directory,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(before)
    network, loading = opened
    wrong = [f"{name} is missing" for name in sorted(loading["missing_keys"])]
    wrong += [
        f"{name}: {tuple(found)} instead of {tuple(own)}" for name, found, own in loading["mismatched_keys"]
    ]
    if wrong:
        raise BlipError(f"{directory}: weights do not fit: " + "; ".join(wrong[:8]))
    return network


def _tokenizer(directory: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(directory, local_files_only=True)

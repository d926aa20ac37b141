"""A trained model as people use it: captions, matches, embeddings, answers, explanations.

model = blip.load("models/captioning")
model.caption(["cat.jpg"], decoding="beam")
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from blip.data.image_processor import check_blip_processor
from blip.data.images import arrive, preprocess
from blip.data.text import Tokenizer, clean_answer, clean_caption, clean_question
from blip.data.vocabulary import find_tokenizer
from blip.errors import BadArguments, BlipError
from blip.model.blip import BlipNetwork
from blip.model.checkpoints import load_network
from blip.model.config_json import ModelCard, check_tokens
from blip.model.context import Context
from blip.model.explain import Explanation, explain, place_words
from blip.model.generation import Decoding, Normalise, decoding_context, generate
from blip.model.inference import keep_in, make_quick, reading
from blip.model.likelihood import mean_log_likelihood, most_likely
from blip.model.matching import CONTEXT_BYTES, context_bytes, match_pairs
from blip.model.parts import lacks, require
from blip.model.public import open_public
from blip.model.several import several_images, several_texts

DecodingName = Literal["greedy", "beam", "nucleus"]
HeadName = Literal["itm", "itc"]
ANSWERS_AT_ONCE = 2048  # candidates of all questions: 1.2 GB of a base model in float32, at 8 tokens


class Blip:
    """A network with its tokenizer, ready for inference.

    Images are file paths, bytes, PIL images or arrays, or a tensor ``[N, 3, S, S]``, normalised or uint8. With a
    `dtype` other than float32 the network's matrices are of that type from then on (`keep_in`).
    """

    def __init__(
        self,
        network: BlipNetwork,
        tokenizer: Tokenizer,
        card: ModelCard | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.network = network.to(device).eval()
        self.tokenizer, self.card = tokenizer, card or ModelCard()
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)
        keep_in(self.network, self.dtype)
        self.image_size = network.config.vision.image_size

    @classmethod
    def open(
        cls,
        directory: Path | str,
        device: str = "cpu",
        dtype: str = "float32",
        compiled: bool = False,
        learns: bool = False,
    ) -> "Blip":
        """Open a model directory, or a public ``.pth`` checkpoint (its vocabulary as `find_tokenizer` finds it).

        Args:
            compiled: compile the layers at their first use, a minute or more that pays for many images on a GPU.
            learns: the network is to be trained; otherwise it is made ready to be read quickly (`make_quick`).

        Raises:
            BlipError: it is no model directory, or tokenizer and network do not belong together.
        """
        public = Path(directory).is_file()
        model = (cls._open_public if public else cls._open_directory)(Path(directory), device, dtype)
        if not learns:
            make_quick(model.network, compiled)
        return model

    @classmethod
    def _open_directory(cls, directory: Path, device: str, dtype: str) -> "Blip":
        network, card = load_network(directory)
        tokenizer = Tokenizer.from_directory(directory)
        if len(tokenizer) > network.config.text.vocabulary:
            raise BlipError(
                f"{directory}: the tokenizer has {len(tokenizer)} entries, the network only "
                f"{network.config.text.vocabulary}; they are of different models"
            )
        check_blip_processor(directory)
        check_tokens(directory, tokenizer.special_tokens)
        return cls(network, tokenizer, card, device, dtype)

    @classmethod
    def _open_public(cls, path: Path, device: str, dtype: str) -> "Blip":
        opened = open_public(path)
        if not isinstance(opened.network, BlipNetwork):
            raise BlipError(
                f"{path} is a model for NLVR2, which reads two images and writes nothing: "
                "blip.model.two_images.TwoImages opens it"
            )
        tokenizer = find_tokenizer(opened.network.config.text.vocabulary, None, path.parent)
        return cls(opened.network, tokenizer, opened.card, device, dtype)

    @property
    def temperature(self) -> float:
        """The learned temperature: cosine / temperature is a log-odds as the ITM head's output is."""
        value = self.network.temperature.item()
        if "temperature" in self.card.missing:
            warnings.warn(f"the model was saved without its temperature; {value:.2g} is used", stacklevel=2)
        return value

    @property
    def can_embed(self) -> bool:
        """Whether the model was saved with both of its projections."""
        missing = self.card.missing
        return not lacks("embed images", missing) and not lacks("embed texts", missing)

    @property
    def can_match(self) -> bool:
        """Whether the model was saved with its matching head."""
        return not lacks("match", self.card.missing)

    @torch.inference_mode()
    def encode_images(self, images: Any, batch_size: int = 64, first_only: bool = False) -> Tensor:
        """Image tokens ``[N, T, D]``, CLS first; of which `first_only` computes that one, ``[N, 1, D]``."""
        parts, images = [], several_images(images)
        for start in range(0, len(images), batch_size):
            with self._autocast():
                parts.append(
                    self.network.vision(self._pixels(images[start : start + batch_size]), first_only)
                )
        if not parts:
            vision = self.network.config.vision
            return torch.empty(0, 1 if first_only else vision.tokens, vision.width, device=self.device)
        return torch.cat(parts)

    @torch.inference_mode()
    def project_images(self, tokens_NTD: Tensor, *, unit: bool = True) -> Tensor:
        """Image tokens to vectors ``[N, P]``, of length 1 unless `unit` is false."""
        require("embed images", self.card.missing)
        with self._autocast():
            return self.network.embed_image(tokens_NTD) if unit else self.network.project_image(tokens_NTD)

    def embed_images(self, images: Any, batch_size: int = 64) -> Tensor:
        """Unit vectors ``[N, P]`` of images."""
        return self.project_images(self.encode_images(images, batch_size, first_only=True))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Unit vectors ``[N, P]`` of texts."""
        require("embed texts", self.card.missing)
        parts, texts = [], several_texts(texts)
        for start in range(0, len(texts), batch_size):
            ids, mask = self._encode_texts(texts[start : start + batch_size])
            with self._autocast():
                parts.append(self.network.embed_text(ids, mask))
        return (
            torch.cat(parts) if parts else torch.empty(0, self.network.config.projection, device=self.device)
        )

    def cut_texts(self, texts: Sequence[str], clean: Callable[..., str] = clean_caption) -> int:
        """How many texts are longer than what the model reads and lose their end.

        It reads ``card.max_tokens``, and of a text what `clean` leaves: 30 words of a caption, 50 of a question.
        """
        longest, read = self.card.max_tokens, [clean(text) for text in texts]
        _, mask = self.tokenizer.encode(read, longest + 1)
        whole = [clean(text, max_words=len(text)) for text in texts]
        return sum(
            tokens > longest or one != other
            for tokens, one, other in zip(mask.sum(dim=1).tolist(), read, whole, strict=True)
        )

    def match(self, images: Any, texts: Sequence[str], head: HeadName = "itm") -> Tensor:
        """Every image against every text ``[N, M]``: probability of a match (ITM) or cosine (ITC)."""
        _one_of("head", head, HeadName)
        texts = several_texts(texts)
        if head == "itc":
            return self.embed_images(images) @ self.embed_texts(texts).T
        tokens = self.encode_images(images)
        image = torch.arange(len(tokens)).repeat_interleave(len(texts))
        text = torch.arange(len(texts)).repeat(len(tokens))
        return self.score_pairs(tokens, image, texts, text).sigmoid().view(len(tokens), len(texts))

    def score_pairs(
        self,
        tokens_NTD: Tensor,
        image_index: Tensor,
        texts: Sequence[str],
        text_index: Tensor,
        *,
        matched_logit: bool = False,
    ) -> Tensor:
        """ITM log-odds of being matched, float32 ``[M]``, for M pairs of an image and a text (`match_pairs`).

        The tokens may be in the host's memory, wherever the model is.
        """
        require("match", self.card.missing)
        if not texts:
            return torch.empty(0, device=self.device)
        ids, mask = self._encode_texts(texts)
        ids[:, 0] = self.tokenizer.enc
        with self._autocast():
            return match_pairs(self.network, tokens_NTD, image_index, ids, mask, text_index, matched_logit)

    def caption(
        self,
        images: Any,
        decoding: DecodingName = "beam",
        *,
        beams: int = 3,
        top_p: float = 0.9,
        max_length: int = 20,
        min_length: int = 2,
        repetition_penalty: float = 1.0,
        normalise: Normalise = "generated",
        prompt: str | None = None,
        seed: int = 0,
        keys: Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> list[str]:
        """Write a caption for every image.

        Beams are compared as `normalise` says (`blip.model.generation`). Lengths count tokens with the prompt, and
        ``[DEC]`` before it: with 2 and no prompt there is at least a word. Nucleus sampling is seeded by `seed` and
        each image's key (its number when `keys` is not given), so that a caption does not depend on the images
        beside it.
        """
        _one_of("decoding", decoding, DecodingName)
        settings = Decoding(
            max_length,
            min_length,
            beams if decoding == "beam" else 1,
            top_p if decoding == "nucleus" else None,
            repetition_penalty,
            normalise=normalise,
        )
        images = several_images(images)
        names = keys or [str(number) for number in range(len(images))]
        captions: list[str] = []
        for start in range(0, len(images), batch_size):
            tokens = self.encode_images(images[start : start + batch_size], batch_size)
            uniforms = None
            if decoding == "nucleus":
                uniforms = keyed_uniforms(names[start : start + len(tokens)], seed, max_length)
            captions += self.caption_tokens(tokens, settings, prompt, uniforms)
        return captions

    @torch.inference_mode()
    def caption_tokens(
        self,
        tokens_BTD: Tensor,
        decoding: Decoding,
        prompt: str | None = None,
        uniforms: Tensor | None = None,
        copies: int = 1,
    ) -> list[str]:
        """Captions of encoded images, without the prompt.

        With `copies`, each image has so many, one after the other; `uniforms` has a row for each of them.
        """
        require("caption", self.card.missing)
        prompt = self.card.prompt if prompt is None else prompt
        start = self._prompt_ids(prompt).expand(len(tokens_BTD) * copies, -1)
        uniforms = None if uniforms is None else uniforms.to(self.device)
        with self._autocast():
            context = decoding_context(self.network, tokens_BTD, decoding, copies=copies)
            ids = generate(self.network, context, start, self.tokenizer.sep, decoding, uniforms)
        return self.tokenizer.decode(ids)

    def likelihood(self, tokens_NTD: Tensor, image_index: Tensor, texts: Sequence[str]) -> Tensor:
        """Mean log-probability of a text's tokens, float32 ``[M]``, for text i of image ``image_index[i]``.

        The texts follow the model's prompt, which does not count.
        """
        require("caption", self.card.missing)
        if not texts:
            return torch.empty(0, device=self.device)
        prompt = clean_caption(self.card.prompt)
        ids, mask = self._encode_texts([f"{prompt} {text}".strip() for text in texts])
        ids[:, 0] = self.tokenizer.bos
        with self._autocast():
            return mean_log_likelihood(
                self.network, tokens_NTD, image_index, ids, mask, self._prompt_ids(prompt).shape[1]
            )

    def answer(
        self,
        images: Any,
        questions: Sequence[str],
        candidates: Sequence[str] | None = None,
        *,
        batch_size: int = 64,
    ) -> list[str]:
        """Answer one question for each image; ranked when `candidates` are given, otherwise written.

        Raises:
            BadArguments: there are not as many questions as images, or no candidate is given.
        """
        images, questions = several_images(images), several_texts(questions, "questions")
        if len(images) != len(questions):
            raise BadArguments(
                f"{len(images)} image(s) and {len(questions)} question(s): give one question for each image"
            )
        candidates = None if candidates is None else several_texts(candidates, "candidates")
        if candidates is not None and not candidates:
            raise BadArguments("candidates is empty: name some answers, or None to have them written")
        answers: list[str] = []
        for start in range(0, len(questions), batch_size):
            asked = questions[start : start + batch_size]
            tokens = self.encode_images(images[start : start + batch_size], batch_size)
            if candidates is None:
                answers += self._write_answers(tokens, asked)
            else:
                answers += self.rank_answers(tokens, torch.arange(len(tokens)), asked, candidates)
        return answers

    @torch.inference_mode()
    def _write_answers(self, tokens_BTD: Tensor, questions: Sequence[str]) -> list[str]:
        with self._autocast():
            context = self._question_context(tokens_BTD, torch.arange(len(questions)), questions)
            start = torch.full((len(questions), 1), self.tokenizer.bos, device=self.device)
            ids = generate(self.network, context, start, self.tokenizer.sep, Decoding(10, 1, beams=3))
        return self.tokenizer.decode(ids)

    @torch.inference_mode()
    def rank_answers(
        self,
        tokens_NTD: Tensor,
        image_index: Tensor,
        questions: Sequence[str],
        candidates: Sequence[str],
        keep: int = 128,
        batch_size: int = 256,
    ) -> list[str]:
        """The most likely candidate for every question (BLIP paper, section 5.3).

        The `keep` candidates with the likeliest first token are scored by their whole log-likelihood. They are
        written as answers are for training. So many questions are ranked at once that no more than `ANSWERS_AT_ONCE`
        candidates are, and that what they look at has room in `CONTEXT_BYTES`: a clip has many tokens.

        Args:
            tokens_NTD: encoded images; question i is about image ``image_index[i]``.
        """
        ids, mask = self._encode([clean_answer(candidate) for candidate in candidates])
        ids[:, 0] = self.tokenizer.bos
        best: list[str] = []
        of_answers = ANSWERS_AT_ONCE // max(1, min(keep, len(candidates)))
        of_images = CONTEXT_BYTES // context_bytes(self.network.config.text, tokens_NTD)
        step = min(batch_size, max(1, of_answers), max(1, of_images))
        for start in range(0, len(questions), step):
            chosen = slice(start, start + step)
            with self._autocast():
                context = self._question_context(tokens_NTD, image_index[chosen], questions[chosen])
                winners = most_likely(self.network, context, ids, mask, keep)
            best += [str(candidates[number]) for number in winners.tolist()]
        return best

    def _question_context(
        self, tokens_NTD: Tensor, image_index: Tensor, questions: Sequence[str]
    ) -> list[Context]:
        require("answer", self.card.missing)
        text = self.network.config.text
        if text.width != text.context_width:
            raise BlipError(
                f"this model cannot answer: the decoder reads question states of width {text.width} where it has "
                f"weights for {text.context_width}; both towers of a VQA model are equally wide"
            )
        ids, mask = self._encode([clean_question(question) for question in questions])
        ids[:, 0] = self.tokenizer.enc
        asked, place = image_index.unique(return_inverse=True)
        images = self.network.text_encoder.project_context(tokens_NTD[asked.to(self.device)])
        if not torch.equal(place, torch.arange(len(asked), device=place.device)):
            images = [layer.select(place.to(self.device)) for layer in images]
        states = self.network.text_encoder(ids, mask, images)
        return self.network.text_decoder.project_context(states, mask)

    def explain(self, image: Any, text: str) -> Explanation:
        """Where in the image each word is seen: gradient-weighted cross-attention of the match.

        The map of a word is the mean of those of the tokens that spell it.

        Raises:
            BadArguments: the text has no word, or none that the model knows.
        """
        require("match", self.card.missing)
        words = clean_caption(text, max_words=len(text)).split()
        ids, mask = self._encode_texts([text])
        ids[:, 0] = self.tokenizer.enc
        with self._autocast():
            maps, probability = explain(self.network, self._pixels([image]), ids, mask)
        places = place_words(self.tokenizer, words, ids.shape[1])
        if not places.found:
            raise BadArguments(f"the text {text!r} has no word to look for in the image")
        heat = torch.stack([maps[tokens].mean(0) for tokens in places.found.values()])
        named = [[words[n] for n in numbers] for numbers in (places.found, places.unknown, places.cut)]
        shares = (heat / heat.amax().clamp_min(1e-12)).cpu().numpy()
        return Explanation(named[0], shares, probability, unknown=named[1], cut=named[2])

    def _pixels(self, images: Any) -> Tensor:
        if isinstance(images, Tensor):
            patch = self.network.config.vision.patch_size
            side = images.shape[-1]
            if images.ndim != 4 or images.shape[1:] != (3, side, side) or side % patch:
                raise BlipError(
                    f"images are a tensor {list(images.shape)}; [N, 3, S, S] with S a multiple of the patch size "
                    f"{patch} is expected (pictures of any size go in as a list)"
                )
            return arrive(images, self.device)
        return preprocess(list(images), self.image_size).to(self.device)

    def _encode_texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        return self._encode([clean_caption(text) for text in texts])

    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids, mask = self.tokenizer.encode(list(texts), self.card.max_tokens)
        return ids.to(self.device), mask.to(self.device)

    def _prompt_ids(self, prompt: str) -> Tensor:
        ids, _ = self._encode([clean_caption(prompt)])
        ids[:, 0] = self.tokenizer.bos
        return ids[:, :-1]

    def _autocast(self) -> AbstractContextManager[None]:
        return reading(self.device, self.dtype)


def keyed_uniforms(keys: Sequence[str], seed: int, length: int) -> Tensor:
    """Uniform numbers ``[len(keys), length]`` that depend on the seed and each row's key alone."""
    rows = []
    for key in keys:
        digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
        rows.append(np.random.default_rng(int.from_bytes(digest[:8], "little")).random(length))
    return torch.from_numpy(np.asarray(rows, dtype=np.float32).reshape(len(keys), length))


def _one_of(name: str, value: str, kind: Any) -> None:
    """Raises BadArguments for a value that a Literal does not name."""
    if value not in get_args(kind):
        raise BadArguments(f"{name}={value!r}: it is one of {', '.join(get_args(kind))}")

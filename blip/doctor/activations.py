"""What a forward pass of the pair objective keeps for its backward, in bytes a pair, by formula and not by trial.

    kept = activation_bytes(network.config, Texts(mean=12, longest=24), "cuda", torch.bfloat16, pairs=320)
    kept.total * 320                    # of a batch

Counted are the tensors that autograd saves. A CPU and a GPU save different ones: attention over few keys is plain on a
CPU, which keeps the weights and copies of keys and values, and fused on a GPU, where in 16 bits texts have no padding
and look at an image's keys and values without a copy; autocast on a GPU computes LayerNorm in float32, which keeps its
input in float32 and a copy of its output for each product that reads it. The formulas for a CPU are compared with the
tensors that are saved there (tests/doctor/test_activations.py); those for a GPU are read from the same code.
"""

from dataclasses import dataclass, replace

import torch

from blip.model.attention import is_plain
from blip.model.blip import BlipConfig
from blip.model.dialogs import CAPTION_TOKENS
from blip.model.packing import PACKED_WIDTH
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

FLOAT = 4


@dataclass(frozen=True)
class Texts:
    """How long the texts of a batch are: tokens in the mean, and of the longest, to which all are padded."""

    mean: float
    longest: int

    def at_most(self, tokens: int) -> "Texts":
        """The same texts, were they cut."""
        return Texts(min(self.mean, tokens), min(self.longest, tokens))


@dataclass(frozen=True)
class Machine:
    """Where a forward runs.

    Attributes:
        cuda: on a GPU; else on a CPU.
        item: bytes of a number in products.
        padded: texts look at keys and values of their own, as at those of other ranks' images: with padding on a GPU.
    """

    cuda: bool
    item: int
    padded: bool = False

    @property
    def mask(self) -> int:
        """Bytes of an element of a dropout mask."""
        return 1 if self.cuda else self.item

    @property
    def ragged(self) -> bool:
        """Whether attention takes texts as long as they are, each with the image it looks at."""
        return self.cuda and self.item < FLOAT and not self.padded

    def plain(self, keys: int) -> bool:
        """Whether attention over so many keys is made of three plain operations."""
        return not self.cuda and is_plain(keys, self.item, training=True)


@dataclass(frozen=True)
class Kept:
    """Bytes a pair by part.

    Attributes:
        constant: of a batch of any size.
        losing: more than that while the language model's loss goes back.
        projecting: more than that when the texts have gone back, whose own is then free, and every layer's gradients of
            keys and values are there. It is below 0 where texts keep more than these take.
    """

    vision: float
    text: float
    cross: float
    contrast: float
    words: float
    constant: float
    losing: float
    projecting: float

    @property
    def total(self) -> float:
        """Of a pair."""
        return self.vision + self.text + self.cross + self.contrast + self.words


def activation_bytes(
    config: BlipConfig,
    texts: Texts,
    device: str,
    dtype: torch.dtype,
    *,
    pairs: int,
    captions: int = 1,
    queue: int = 57600,
    losses: tuple[bool, bool, bool] = (True, True, True),
    checkpointing: bool = False,
    locked_vision: bool = False,
    sharing: int = 1,
    distractors: bool = False,
) -> Kept:
    """What a batch of `pairs` images keeps, an image with its texts.

    Args:
        captions: texts of an image.
        losses: whether there are ITC, ITM and LM.
        checkpointing: a layer keeps its input alone.
        locked_vision: the image encoder has no backward, and keeps nothing but what it has made.
        sharing: ranks that draw ITM's negatives from each other's images.
        distractors: beside every text one more is embedded.
    """
    machine = Machine(device == "cuda", dtype.itemsize)
    itc, itm, lm = losses
    vision = _image(config, machine, checkpointing, locked_vision)
    abroad, seen = itm and sharing > 1, config.vision.seen(locked_vision)
    matching = replace(machine, padded=abroad)
    passes = [(1 + distractors, False, machine)] * (itc or itm) + [(3, True, matching)] * itm
    text = sum(n * _stack(config.text, texts, on, looks, checkpointing, 1) for n, looks, on in passes)
    words = 0.0
    if lm:
        shifted = Texts(texts.mean - 1, texts.longest - 1)
        text += _stack(config.text, shifted, machine, True, checkpointing, shifted.mean)
        words = _words(config.text, shifted.mean, machine)
    cross = _cross(config, seen, texts, machine, itm, lm, checkpointing, abroad)
    keys, others = queue + pairs * captions, distractors * pairs * captions
    contrast = itc * (6 * keys + 3 * others) * FLOAT
    constant = itc * (queue > 0) * (2 * keys + others) * config.projection * FLOAT
    text, cross, contrast, words = (captions * part for part in (text, cross, contrast, words))
    losing = captions * 2 * _logits(config.text, texts.mean - 1) if lm else 0.0
    left = _pair_of_keys(config, seen, machine) if itm or lm else 0.0  # of the cross part, of an image
    projecting = (1 + lm) * left - (text + words + cross - left)
    cross += abroad * sharing * seen * config.vision.width * FLOAT  # gathered, or their gradient
    return Kept(vision, text, cross, contrast, words, constant, losing, projecting)


def answer_bytes(
    config: BlipConfig,
    texts: Texts,
    device: str,
    dtype: torch.dtype,
    asked: int,
    checkpointing: bool,
    locked_vision: bool = False,
) -> float:
    """An image with its questions: the encoder reads each with the image, the decoder reads that and answers."""
    machine = Machine(device == "cuda", dtype.itemsize)
    question = _stack(config.text, texts, machine, True, checkpointing, texts.mean)
    answer = _stack(config.text, texts, machine, True, checkpointing, texts.mean)
    seen = config.vision.seen(locked_vision)
    looked = _cross(config, seen, texts, machine, itm=False, lm=True, checkpointing=checkpointing)
    read = 2 * config.text.layers * texts.longest * config.text.width * machine.item
    each = question + answer + looked + read + 2 * _words(config.text, texts.mean, machine)
    return _image(config, machine, checkpointing, locked_vision) + asked * each


def statement_bytes(
    config: BlipConfig,
    texts: Texts,
    device: str,
    dtype: torch.dtype,
    asked: int,
    checkpointing: bool,
    locked_vision: bool = False,
) -> float:
    """Two images with their statements, each of which looks at a copy of both images' keys and values."""
    machine, text = Machine(device == "cuda", dtype.itemsize), config.text
    read = _stack(text, texts, machine, True, checkpointing, 1)
    queries = (text.layers - 1) * texts.longest + 1
    seen = config.vision.seen(locked_vision)
    looked = 2 * _seen(config, machine, seen, 1, queries, checkpointing)
    image = _image(config, machine, checkpointing, locked_vision)
    images = 2 * (image + _projected(config, machine, seen))
    # The second attended values everywhere, and what both found side by side where layers merge.
    merges = text.layers - text.layers // 2
    found = (text.layers - 1) * texts.mean + 1 + 2 * ((merges - 1) * texts.mean + 1)
    second = found * text.width * machine.item
    return images + asked * (read + looked + second)


def dialog_bytes(
    config: BlipConfig,
    texts: Texts,
    device: str,
    dtype: torch.dtype,
    asked: int,
    checkpointing: bool,
    locked_vision: bool = False,
) -> float:
    """An image with its caption, and questions, each with two answers, which look at copies of the keys and values."""
    machine, text = Machine(device == "cuda", dtype.itemsize), config.text
    caption = texts.at_most(CAPTION_TOKENS)
    written = _stack(text, caption, machine, False, checkpointing, caption.mean)
    seen = config.vision.seen(locked_vision) + caption.longest
    joined = seen * text.width * machine.item
    queries = (text.layers - 1) * texts.longest + 1
    looked = _seen(config, machine, seen, 1, queries, checkpointing)
    read = _stack(text, texts, machine, True, checkpointing, 1)
    vision = 0.0 if locked_vision else vision_bytes(config.vision, machine, checkpointing)
    projected = _projected(config, machine, seen)
    return vision + projected + written + joined + 2 * asked * (read + looked)


def _image(config: BlipConfig, machine: Machine, checkpointing: bool, locked: bool) -> float:
    """An image through its encoder, or of a locked one what text layers project, if they make no copies of it."""
    if not locked:
        return vision_bytes(config.vision, machine, checkpointing)
    vision, copied = config.vision, _projected(config, machine, 1) > 0
    return 0.0 if copied else vision.tokens * vision.width * machine.item


def vision_bytes(config: VisionConfig, machine: Machine, checkpointing: bool = False) -> float:
    """The image encoder, an image."""
    n, d, s = config.seen(), config.width, machine.item
    # LayerNorm keeps its input and, for the product behind it, its output.
    norm = d * (FLOAT + s if machine.cuda and s < FLOAT else 2 * s)
    mlp = config.mlp_ratio * d * s
    attention = (3 + 1) * d * s + _weights(machine, config.heads, n, s)
    layer = n * (2 * norm + attention + mlp)
    drawn_from = config.tokens * d * s if config.patch_dropout else 0
    ends = n * norm + (config.tokens - 1) * 3 * config.patch_size**2 * s + drawn_from
    if checkpointing:
        return ends + config.layers * n * d * s
    return ends + config.layers * layer


def _weights(machine: Machine, heads: int, keys: int, item: int) -> float:
    """What attention keeps for a query beside queries, keys, values and result."""
    return heads * (keys * item if machine.plain(keys) else FLOAT)


def _stack(
    config: TextConfig, texts: Texts, machine: Machine, context: bool, checkpointing: bool, last: float
) -> float:
    """One text through all layers, without what cross-attention keeps of the image; `last` tokens of the last layer."""
    d, s = config.width, machine.item
    packed = d >= PACKED_WIDTH or (not machine.cuda and s == FLOAT)
    tokens = texts.mean if packed else texts.longest
    last = tokens if last > 1 else last
    mask = machine.mask if config.dropout else 0
    ends = FLOAT + s + mask  # LayerNorm's input, its output for the next product, the dropout mask
    dense = tokens * d * (s + ends)  # the attended values and the end of self-attention
    dense_last = last * d * (s + ends)
    crossing = d * (s + ends) if context else 0
    feeding = d * (2 * config.mlp_ratio * s + ends)
    seen = texts.mean if machine.ragged else texts.longest
    kept = 3 * seen * d * s
    fused = 0 if machine.ragged or machine.plain(texts.longest) else texts.longest * d * s * packed
    weights = 0 if machine.ragged else seen * _weights(machine, config.heads, texts.longest, s)
    layer = dense + tokens * (crossing + feeding) + kept + fused + weights
    final = dense_last + last * (crossing + feeding) + kept + weights * last / tokens
    words = texts.longest * d * (FLOAT + (FLOAT if mask and not machine.cuda else mask))
    if checkpointing:
        return words + config.layers * tokens * d * FLOAT
    return words + (config.layers - 1) * layer + final


def _cross(
    config: BlipConfig,
    seen: int,
    texts: Texts,
    machine: Machine,
    itm: bool,
    lm: bool,
    checkpointing: bool,
    abroad: bool = False,
) -> float:
    """Keys, values and attention weights of all text layers, a pair, and the `seen` image tokens that they are made of.

    `abroad`: negative images may be those of other ranks, and are projected once more.
    """
    if not (itm or lm):
        return 0.0
    matching = replace(machine, padded=abroad)
    # The pair's own, the negative image's, and the decoder's where attention copies them.
    copies = 1 + itm
    if matching.ragged:
        copies = 1
    elif machine.plain(seen) and not checkpointing:
        copies = 2 * itm + lm
    full, first = config.text.layers - 1, 1
    length, written = (texts.mean if on.ragged else texts.longest for on in (matching, machine))
    projected = (1 + abroad) * _projected(config, machine, seen)
    if abroad and not projected:
        projected = seen * config.vision.width * machine.item
    matched = _seen(config, matching, seen, copies, itm * 3 * (full * length + first), checkpointing)
    return (
        projected + matched + _seen(config, machine, seen, 0, lm * (full + 1) * (written - 1), checkpointing)
    )


def _projected(config: BlipConfig, machine: Machine, seen: int) -> float:
    """The copy of the `seen` tokens in the type that all text layers project them in, where that is not their own."""
    copied = machine.cuda and machine.item < FLOAT
    return copied * seen * config.vision.width * machine.item


def _seen(
    config: BlipConfig, machine: Machine, n: int, copies: int, queries: float, checkpointing: bool
) -> float:
    """So many copies of the keys and values of `n` tokens, and what so many queries of all layers keep of them."""
    text, s = config.text, machine.item
    kept = text.layers * 2 * n * text.width * s * copies
    if checkpointing:
        return kept
    query = text.width * s * (1 if machine.ragged or machine.plain(n) else 2)
    weights = 0 if machine.ragged else _weights(machine, text.heads, n, s)
    return kept + queries * (query + weights)


def _pair_of_keys(config: BlipConfig, seen: int, machine: Machine) -> float:
    """The keys and values of an image in all text layers, once."""
    return _seen(config, machine, seen, 1, 0, True)


def _words(config: TextConfig, tokens: float, machine: Machine) -> float:
    """The language-model head where a next token is to be told."""
    s = machine.item
    return _logits(config, tokens) + tokens * config.width * (3 * s + FLOAT)


def _logits(config: TextConfig, tokens: float) -> float:
    return tokens * config.vocabulary * FLOAT

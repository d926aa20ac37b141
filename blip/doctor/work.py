"""The products that our training step really computes for a pair; `blip.training.flops` has the published count.

    sum(pair_work(network.config, Texts(mean=12, longest=24)).values())     # 193e9 for ViT-B/16 at 224 px

The losses are the published ones for less work: an image's keys and values are projected once for the matched pair,
its wrong text and the decoder; dense layers see no padding; the encoder's last layer computes position 0 alone.
"""

from blip.doctor.activations import Texts
from blip.model.blip import BlipConfig
from blip.model.dialogs import CAPTION_TOKENS
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.training.flops import BACKWARD, vision_flops


def pair_work(
    config: BlipConfig,
    texts: Texts,
    *,
    losses: tuple[bool, bool, bool] = (True, True, True),
    queue: int = 57600,
    momentum: bool = True,
    locked_vision: bool = False,
    captions: int = 1,
    checkpointing: bool = False,
    cached: bool = False,
    abroad: bool = False,
    distractors: bool = False,
) -> dict[str, float]:
    """FLOP of an image with its texts, by part.

    Args:
        texts: how many tokens; attention is padded to the longest.
        losses: whether there are ITC, ITM and LM.
        queue: keys that ITC compares with.
        checkpointing: layers are computed once more in the backward.
        cached: image and texts are embedded twice, first for ITC over all batches of a step.
        abroad: ITM's negative images may be those of other ranks, and are projected once more.
        distractors: beside every text one more is embedded.
    """
    itc, itm, lm = losses
    both = BACKWARD + checkpointing
    twin = itc and momentum
    text, embedded = config.text, captions * (1 + distractors)
    parts = {"vision": _vision(config, both, locked_vision)}
    if twin and not locked_vision:
        parts["momentum vision"] = vision_flops(config.vision, dropped=False) - _beyond_cls(config.vision)
    if itc or itm:
        learnt = both if itc else 1  # ITM alone draws its negatives by it
        parts["text"] = embedded * learnt * _stack(text, texts, 0, first_only=True)
    if itc and cached:
        parts["cached features"] = vision_flops(config.vision, not locked_vision)
        parts["cached features"] += embedded * _stack(text, texts, 0, first_only=True)
    if twin:
        parts["momentum text"] = captions * _stack(text, texts, 0, first_only=True)
        # To the texts' keys and to the images', each four times: ours twice, the twin's, and the backward.
        parts["similarities"] = captions * 2 * 2 * 4 * queue * config.projection
    seen = config.vision.seen(locked_vision)
    if itm or lm:
        projected = 4 * text.layers * seen * config.vision.width * text.width
        parts["keys and values"] = BACKWARD * projected * (1 + captions * (itm and abroad))
    if itm:
        parts["itm"] = captions * both * 3 * _stack(text, texts, seen, first_only=True)
    if lm:
        shifted = Texts(texts.mean - 1, texts.longest - 1)
        head = 2 * shifted.mean * text.width * (text.width + text.vocabulary)
        parts["lm"] = captions * (both * _stack(text, shifted, seen, first_only=False) + BACKWARD * head)
    return parts


def answer_work(
    config: BlipConfig,
    texts: Texts,
    *,
    asked: int = 1,
    locked_vision: bool = False,
    checkpointing: bool = False,
) -> dict[str, float]:
    """FLOP of an image with its questions, each answered once."""
    both, text, seen = BACKWARD + checkpointing, config.text, config.vision.seen(locked_vision)
    of_image = 4 * text.layers * seen * config.vision.width * text.width
    of_question = 4 * text.layers * texts.mean * text.width**2
    head = 2 * texts.mean * text.width * (text.width + text.vocabulary)
    answer = _stack(text, texts, texts.longest, first_only=False)
    return {
        "vision": _vision(config, both, locked_vision),
        "keys and values": BACKWARD * (of_image + asked * of_question),
        "question": both * asked * _stack(text, texts, seen, first_only=False),
        "answer": asked * (both * answer + BACKWARD * head),
    }


def statement_work(
    config: BlipConfig,
    texts: Texts,
    *,
    asked: int = 1,
    locked_vision: bool = False,
    checkpointing: bool = False,
) -> dict[str, float]:
    """FLOP of two images with their statements, each read once with both."""
    both, text, seen = BACKWARD + checkpointing, config.text, config.vision.seen(locked_vision)
    alone, read = (_stack(text, texts, context, first_only=True) for context in (0, seen))
    merged = (text.layers - text.layers // 2 - 1) * texts.mean + 1
    merging = 2 * merged * 2 * text.width**2
    return {
        "vision": 2 * _vision(config, both, locked_vision),
        "keys and values": 2 * BACKWARD * 4 * text.layers * seen * config.vision.width * text.width,
        "statements": both * asked * (2 * read - alone + merging),
    }


def dialog_work(
    config: BlipConfig,
    texts: Texts,
    *,
    asked: int = 1,
    locked_vision: bool = False,
    checkpointing: bool = False,
) -> dict[str, float]:
    """FLOP of an image, its caption and questions, each read with its right answer and with a wrong one."""
    both, text = BACKWARD + checkpointing, config.text
    caption = texts.at_most(CAPTION_TOKENS)
    seen = config.vision.seen(locked_vision) + caption.longest
    return {
        "vision": _vision(config, both, locked_vision),
        "caption": both * _stack(text, caption, 0, first_only=False),
        "keys and values": BACKWARD * 4 * text.layers * seen * config.vision.width * text.width,
        "dialogs": both * 2 * asked * _stack(text, texts, seen, first_only=True),
    }


ASKED_WORK = {"questions": answer_work, "statements": statement_work, "dialogs": dialog_work}
"""By task, of those where texts are asked about a picture; `asked` is how many."""


def _vision(config: BlipConfig, both: int, locked: bool) -> float:
    """An image through its encoder and back; pixels have no gradient, and what makes tokens of them is done once."""
    vision, image = config.vision, vision_flops(config.vision, not locked)
    if locked:
        return image
    embedded = 2 * (vision.tokens - 1) * 3 * vision.patch_size**2 * vision.width
    return both * (image - embedded) + 2 * embedded


def _beyond_cls(vision: VisionConfig) -> float:
    """What the last block computes of patches, beside their keys and values, where only CLS is read."""
    d, others = vision.width, vision.tokens - 1
    return 2 * others * ((2 + 2 * vision.mlp_ratio) * d**2 + 2 * vision.tokens * d)


def _stack(config: TextConfig, texts: Texts, context: int, first_only: bool) -> float:
    """One text through all layers; what it looks at is projected already."""
    layer = _layer(config, texts.mean, texts.longest, texts, context)
    last = _layer(config, 1, 1, texts, context) if first_only else layer
    return (config.layers - 1) * layer + last


def _layer(config: TextConfig, tokens: float, queries: int, texts: Texts, context: int) -> float:
    """`tokens` in dense layers and `queries`, with padding, in attention; keys and values of every token."""
    d = config.width
    dense = (1 + 2 * config.mlp_ratio) * tokens * d**2 + 3 * texts.mean * d**2
    attention = 2 * queries * texts.longest * d
    crossing = 2 * tokens * d**2 + 2 * queries * context * d if context else 0.0
    return 2 * (dense + attention + crossing)

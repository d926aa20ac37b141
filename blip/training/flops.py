"""The matrix products of a training pair, as published: what MFU (model FLOP utilisation) is reckoned with.

    sum(pair_flops(network.config, tokens=30).values())         # 306.8e9 for ViT-B/16 at 224 px

A multiplication with its addition counts as two; a backward pass as two forward passes. Counted is what the published
code computes: every text padded to the longest, and an image's cross-attention keys and values projected anew for the
matched pair, both kinds of negatives and the decoder. Our step computes less for the same losses, so an MFU on this
count says how fast a run is among runs, and may exceed what the hardware did.
"""

from blip.model.blip import BlipConfig
from blip.model.dialogs import CAPTION_TOKENS
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

BACKWARD = 3  # forward and backward, in forward passes


def pair_flops(
    config: BlipConfig,
    tokens: int,
    *,
    itc: bool = True,
    itm: bool = True,
    lm: bool = True,
    momentum: bool = True,
    locked_vision: bool = False,
    captions: int = 1,
) -> dict[str, float]:
    """FLOPs of an image with its texts in a step of the pair objective, by part (BLIP paper, section 3.2).

    Args:
        tokens: of a padded text.
        itc, itm, lm: which losses there are; `momentum` whether a twin computes the keys of ITC.
        locked_vision: the tower has no backward pass, and no twin of its own.
        captions: texts of an image.
    """
    image, text = vision_flops(config.vision, not locked_vision), captions * text_flops(config.text, tokens)
    whole = vision_flops(config.vision, dropped=False)
    read = captions * text_flops(config.text, tokens, context=config.vision.seen(locked_vision))
    parts = {"vision": image if locked_vision else BACKWARD * image}
    if itc and momentum and not locked_vision:
        parts["momentum vision"] = whole
    if itc or itm:
        parts["text"] = BACKWARD * text
    if itc and momentum:
        parts["momentum text"] = text
    if itm:
        # The pair, its image with a wrong text, its text with a wrong image
        parts["itm"] = 3 * BACKWARD * read
    if lm:
        parts["lm"] = BACKWARD * (read + captions * head_flops(config.text, tokens))
    return parts


def answer_flops(
    config: BlipConfig, tokens: int, *, asked: int = 1, locked_vision: bool = False
) -> dict[str, float]:
    """FLOPs of an image with its questions: the encoder reads each with the image, the decoder answers (5.3)."""
    image = vision_flops(config.vision, not locked_vision)
    question = text_flops(config.text, tokens, context=config.vision.seen(locked_vision))
    answer = text_flops(config.text, tokens, context=tokens) + head_flops(config.text, tokens)
    return {
        "vision": image if locked_vision else BACKWARD * image,
        "question": BACKWARD * asked * question,
        "answer": BACKWARD * asked * answer,
    }


def statement_flops(
    config: BlipConfig, tokens: int, *, asked: int = 1, locked_vision: bool = False
) -> dict[str, float]:
    """FLOPs of two images with their statements: each is read with both (5.4); half of the layers merge the two."""
    image, text = vision_flops(config.vision, not locked_vision), config.text
    seen = config.vision.seen(locked_vision)
    alone = text_flops(text, tokens)
    read = alone + 2 * (text_flops(text, tokens, context=seen) - alone)
    merging = 2 * (text.layers - text.layers // 2) * tokens * 2 * text.width**2
    return {
        "vision": (1 if locked_vision else BACKWARD) * 2 * image,
        "statements": BACKWARD * asked * (read + merging),
    }


def dialog_flops(
    config: BlipConfig, tokens: int, *, asked: int = 1, locked_vision: bool = False
) -> dict[str, float]:
    """FLOPs of an image, its caption and questions, each read with its right answer and with a wrong one (5.5)."""
    image, caption = vision_flops(config.vision, not locked_vision), min(tokens, CAPTION_TOKENS)
    read = text_flops(config.text, tokens, context=config.vision.seen(locked_vision) + caption)
    return {
        "vision": image if locked_vision else BACKWARD * image,
        "caption": BACKWARD * text_flops(config.text, caption),
        "dialogs": BACKWARD * 2 * asked * read,
    }


ASKED_FLOPS = {"questions": answer_flops, "statements": statement_flops, "dialogs": dialog_flops}
"""By task, of those where texts are asked about a picture; `asked` is how many."""


def vision_flops(config: VisionConfig, dropped: bool = True) -> float:
    """One forward pass of the image encoder; `dropped`: of the patches that patch dropout leaves."""
    patches = (config.tokens - 1) * 3 * config.patch_size**2 * config.width
    seen = config.seen(locked=not dropped)
    return 2 * (patches + config.layers * _layer(seen, config.width, config.mlp_ratio))


def text_flops(config: TextConfig, tokens: int, context: int = 0) -> float:
    """One forward pass of the text encoder; with cross-attention where there are `context` tokens to look at."""
    layer = _layer(tokens, config.width, config.mlp_ratio)
    if context:
        queries_and_output = 2 * tokens * config.width**2
        keys_and_values = 2 * context * config.context_width * config.width
        layer += queries_and_output + keys_and_values + 2 * tokens * context * config.width
    return 2 * config.layers * layer


def head_flops(config: TextConfig, tokens: int) -> float:
    """The language-model head at every position."""
    return 2 * tokens * config.width * (config.width + config.vocabulary)


def _layer(tokens: int, width: int, mlp_ratio: int) -> float:
    """Multiplications of self-attention and MLP."""
    return (4 + 2 * mlp_ratio) * tokens * width**2 + 2 * tokens**2 * width

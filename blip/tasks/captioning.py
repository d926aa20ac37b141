"""Captioning: exact match, and CIDEr, BLEU-4 and ROUGE-L as the COCO evaluation counts them.

    caption_metrics(["a red apple"], [["red apple", "an apple"]])   # {"exact_match": 1.0, "cider": ..., ...}

The scorers are pycocoevalcap's pure-Python ones, behind a tokeniser that needs no Java (blip/tasks/ptb.py). CIDEr is
on its natural scale, where 1.0 is what papers print as 100. `evaluate` compares texts as the model's vocabulary can
spell them, Chinese and Japanese by their characters.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from blip.data.sample import Sample
from blip.data.text import EVERY_WORD, clean_caption
from blip.tasks.batches import batches
from blip.tasks.outcome import Example, NothingToEvaluate, Outcome, choose, picture_of
from blip.tasks.ptb import tokenise

Caption = Callable[[Sequence[bytes]], list[str]]  # pictures -> their captions
Normal = Callable[[str], str]  # a text as a vocabulary can spell it: `Tokenizer.normal`

DOMAINS = ("in-domain", "near-domain", "out-domain")  # of NoCaps

_ARTICLE = re.compile(r"^(?:a|an|the) ")
_UNSPACED = re.compile(r"([\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0002fa1f])")


def comparable(text: str, normal: Normal) -> str:
    """A text in the form in which it is compared: `normal`, the characters of Chinese and Japanese one by one."""
    return _UNSPACED.sub(r" \1 ", normal(text))


def is_exact(caption: str, references: Sequence[str]) -> bool:
    """Whether a caption, cleaned and without leading article, equals any reference. Empty equals none."""
    bare = _bare(caption)
    return bool(bare) and bare in {_bare(reference) for reference in references}


def exact_match(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The share of captions that equal any of their references."""
    return sum(map(is_exact, captions, references)) / len(captions)


def reference_figures(references: Sequence[Sequence[str]]) -> dict[str, float]:
    """What exact match is to be read beside.

    Returns:
        `always_commonest`, the exact match of the one caption that is a reference of most pictures, given for all of
        them; `reference_words`, the words of a reference on average, articles at its beginning not counted.
    """
    bare = [{_bare(text) for text in texts} - {""} for texts in references]
    counts = Counter(text for texts in bare for text in texts)
    words = [len(text.split()) for texts in bare for text in texts]
    return {
        "always_commonest": max(counts.values(), default=0) / len(references),
        "reference_words": sum(words) / max(len(words), 1),
    }


def caption_metrics(
    captions: Sequence[str], references: Sequence[Sequence[str]], domains: Sequence[str] = ()
) -> dict[str, float]:
    """Score captions against one or several references each.

    Args:
        domains: of each picture, one of `DOMAINS` or another word, where CIDEr is told by them too. How rare a word is
            goes by the pictures of all, so that those of the domains give the one of all by the domains' sizes, as the
            published ones of NoCaps do.

    Returns:
        `exact_match`, `cider`, `in-domain.cider` and so on, `bleu4`, `rouge_l`. No `cider` of one picture: a word
        counts by how few of the pictures have it in their references, so there every word counts nothing.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    given = {row: [tokenise(caption)] for row, caption in enumerate(captions)}
    wanted = {row: [tokenise(text) for text in texts] for row, texts in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(wanted, given, verbose=0)
    cider: dict[str, float] = {}
    if len(wanted) > 1:
        mean, of_each = Cider().compute_score(wanted, given)
        cider["cider"] = float(mean)
        for domain in DOMAINS:
            scores = [float(score) for name, score in zip(domains, of_each, strict=False) if name == domain]
            cider |= {f"{domain}.cider": sum(scores) / len(scores)} if scores else {}
    return {
        "exact_match": exact_match(captions, references),
        **cider,
        "bleu4": float(bleu[3]),
        "rouge_l": float(Rouge().compute_score(wanted, given)[0]),
    }


def evaluate(
    caption: Caption,
    samples: Iterable[Sample],
    *,
    batch_size: int,
    seed: int,
    domains: Mapping[str, str] = MappingProxyType({}),
    numbers: Mapping[str, int] = MappingProxyType({}),
    normal: Normal = str,
) -> Outcome:
    """Caption every sample that has references.

    Args:
        caption: writes the captions of a batch of pictures: `Blip.caption` with its decoding bound.
        domains: by the keys of samples, those of NoCaps, by which CIDEr is told apart as well.
        numbers: by the keys of samples, what an evaluation server knows their pictures by.
        normal: `Tokenizer.normal` of the same model; without it texts are compared as they are.

    Raises:
        NothingToEvaluate: no sample has a caption to compare with.
    """
    keys: list[str] = []
    written: list[str] = []
    references: list[list[str]] = []
    for batch in batches((sample for sample in samples if _references(sample)), batch_size):
        written += caption([sample.media for sample in batch])
        keys += [sample.key for sample in batch]
        references += [_references(sample) for sample in batch]
    if not keys:
        raise NothingToEvaluate(
            "captioning needs reference captions, and no sample of the evaluation data has one"
        )
    given = [comparable(text, normal) for text in written]
    wanted = [[comparable(text, normal) for text in texts] for texts in references]
    correct = list(map(is_exact, given, wanted))
    chosen = choose(correct, seed)
    of_pictures = [domains.get(key, "") for key in keys]
    figures = caption_metrics(given, wanted, of_pictures) | reference_figures(wanted)
    rows = [
        {"key": key, "reference": texts[0], "caption": text, "correct": right}
        for key, texts, text, right in zip(keys, references, written, correct, strict=True)
    ]
    return Outcome(
        metrics={f"captioning.{name}": value for name, value in figures.items()},
        examples={"examples": [_example(rows[row]) for row in chosen.rows]},
        pictures=frozenset(keys[row] for row in chosen.rows),
        selection=chosen,
        predictions=rows,
        answers=[
            {"image_id": numbers[key], "caption": text}
            for key, text in zip(keys, written, strict=True)
            if key in numbers
        ],
    )


def _example(row: dict[str, object]) -> Example:
    return {"image": picture_of(str(row["key"]))} | {n: row[n] for n in ("reference", "caption", "correct")}


def _references(sample: Sample) -> list[str]:
    return [caption.text for caption in sample.captions if tokenise(caption.text)]


def _bare(caption: str) -> str:
    """Uncut: the words of Chinese and Japanese are characters here."""
    return _ARTICLE.sub("", clean_caption(caption, EVERY_WORD))

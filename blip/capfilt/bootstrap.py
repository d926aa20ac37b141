"""Bootstrap a pairs dataset: caption every web image, score every text, keep what matches, write down why.

    bootstrap(PairsDataset.open("web"), target, captioner, filter, BootstrapSettings())

Images are read once, a batch at a time; the audit is written a batch at a time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from blip.atomic import atomic_path
from blip.capfilt.judge import Judge
from blip.config import FilterHead
from blip.data.images import preprocess
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.model.api import Blip, keyed_uniforms
from blip.model.generation import Decoding

AUDIT = "audit.parquet"
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("web_text", pa.string()),
        ("synthetic_texts", pa.list_(pa.string())),
        ("web_itm", pa.float32()),
        ("web_itc", pa.float32()),
        ("synthetic_itm", pa.list_(pa.float32())),
        ("synthetic_itc", pa.list_(pa.float32())),
        ("web_score", pa.float32()),
        ("synthetic_score", pa.list_(pa.float32())),
        ("kept", pa.list_(pa.string())),
        ("web_kept", pa.bool_()),
        ("synthetic_kept", pa.list_(pa.bool_())),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class BootstrapSettings:
    """How captions are written and which texts are kept.

    Attributes:
        head: of the filter, by which it decides (`blip.capfilt.judge`); ITM as published.
        threshold: probability of matching at and above which a text is kept; 0.5 is the argmax, as published.
        seed: of the nucleus sampling; a caption depends on it and its image's key alone.
    """

    decoding: Literal["nucleus", "beam"] = "nucleus"
    top_p: float = 0.9
    max_tokens: int = 20
    min_tokens: int = 5
    head: FilterHead = "itm"
    threshold: float = 0.5
    batch_size: int = 64
    samples_per_shard: int = 1000
    seed: int = 0


@dataclass
class Counts:
    """What became of the texts and images."""

    images: int = 0
    web_kept: int = 0
    synthetic_kept: int = 0
    synthetic: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Judged(NamedTuple):
    """A text with its scores, and the probability by which it is kept or dropped."""

    caption: Caption
    score: float


@dataclass(frozen=True)
class Decision:
    """One web image with its texts, judged."""

    sample: Sample
    web: Judged
    synthetic: tuple[Judged, ...]
    threshold: float

    @property
    def kept(self) -> tuple[Caption, ...]:
        """The texts that match, the web text first."""
        return tuple(text.caption for text in (self.web, *self.synthetic) if self.keeps(text))

    def keeps(self, text: Judged) -> bool:
        """Whether a text passes: it says something, and the filter finds it in the image."""
        return bool(text.caption.text) and text.score >= self.threshold

    @property
    def reason(self) -> str:
        """Why nothing was kept, or the empty string."""
        if self.kept:
            return ""
        return "no_text" if not any(t.caption.text for t in (self.web, *self.synthetic)) else "no_match"


def bootstrap(
    web: PairsDataset,
    human: PairsDataset | None,
    target: Path,
    captioner: Blip,
    filter_: Blip,
    settings: BootstrapSettings,
    excluded: frozenset[str] = frozenset(),
    excluded_human: frozenset[str] = frozenset(),
) -> Counts:
    """Write the bootstrapped dataset with its audit to `target`; human pairs pass through.

    Raises:
        BlipError: `target` exists, there is no web sample to work on, or no human text to compare with.
    """
    if target.exists():
        raise BlipError(f"{target} exists already; name another destination, or remove it first")
    counts = Counts()
    parents = [dataset.digest for dataset in (web, human) if dataset is not None]
    parameters = {
        name: getattr(settings, name) for name in ("decoding", "top_p", "head", "threshold", "seed")
    }
    judge = Judge.of(filter_, settings.head, _texts(human, excluded_human))
    with (
        atomic_path(target.parent / f".{target.name}.audit") as audit,
        PairsWriter(
            target, samples_per_shard=settings.samples_per_shard, parents=parents, parameters=parameters
        ) as writer,
        pq.ParquetWriter(audit, SCHEMA) as table,
    ):
        for decisions in _decide(web.samples(excluded), captioner, judge, settings):
            table.write_table(pa.Table.from_pylist([_audit_row(d) for d in decisions], SCHEMA))
            for decision in decisions:
                _count(counts, decision)
                if decision.kept:
                    writer.add(replace(decision.sample, captions=decision.kept))
            _say(counts, len(web))
        if not counts.images:
            raise BlipError(f"{web.path} has no sample to caption; is it a dataset of web pairs?")
        if human is not None:
            for sample in human.samples(excluded_human):
                writer.add(sample)
    (target.parent / f".{target.name}.audit").replace(target / AUDIT)
    return counts


def _texts(human: PairsDataset | None, excluded: frozenset[str]) -> Iterator[str]:
    """The human texts, read from the metadata: no picture is decoded."""
    for row in human.metadata(["key", "captions"]).to_pylist() if human is not None else []:
        if row["key"] not in excluded:
            yield from (clean_caption(caption["text"]) for caption in row["captions"])


def _decide(
    samples: Iterable[Sample], captioner: Blip, judge: Judge, settings: BootstrapSettings
) -> Iterator[list[Decision]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, settings.batch_size)):
        yield _decide_batch(batch, captioner, judge, settings)


def _decide_batch(
    batch: Sequence[Sample], captioner: Blip, judge: Judge, settings: BootstrapSettings
) -> list[Decision]:
    """Write a caption for each image and judge both texts; the image is encoded once by each model."""
    media = [sample.media for sample in batch]
    pixels = preprocess(media, captioner.image_size)
    written = _write_captions(batch, captioner.encode_images(pixels, len(batch)), captioner, settings)
    if judge.model.image_size != captioner.image_size:
        pixels = preprocess(media, judge.model.image_size)
    webs = [clean_caption(sample.captions[0].text) if sample.captions else "" for sample in batch]
    tokens = judge.model.encode_images(pixels, len(batch))
    verdicts = judge(tokens, webs + written, torch.arange(len(batch)).repeat(2))
    judged = [
        Judged(Caption(text, origin, itm=round(itm, 6), itc=round(itc, 6)), round(score, 6))
        for text, origin, itm, itc, score in zip(
            webs + written,
            ["web"] * len(batch) + ["synthetic"] * len(batch),
            *(scores.tolist() for scores in verdicts),
            strict=True,
        )
    ]
    return [
        Decision(sample, web, (synthetic,), settings.threshold)
        for sample, web, synthetic in zip(batch, judged[: len(batch)], judged[len(batch) :], strict=True)
    ]


def _write_captions(
    batch: Sequence[Sample], tokens: torch.Tensor, captioner: Blip, settings: BootstrapSettings
) -> list[str]:
    nucleus = settings.decoding == "nucleus"
    decoding = Decoding(
        settings.max_tokens,
        settings.min_tokens,
        beams=1 if nucleus else 3,
        top_p=settings.top_p if nucleus else None,
    )
    keys = [sample.key for sample in batch]
    uniforms = keyed_uniforms(keys, settings.seed, settings.max_tokens) if nucleus else None
    return [clean_caption(text) for text in captioner.caption_tokens(tokens, decoding, uniforms=uniforms)]


def _audit_row(decision: Decision) -> dict[str, object]:
    web, synthetic = decision.web, decision.synthetic
    return {
        "key": decision.sample.key,
        "web_text": decision.sample.captions[0].text if decision.sample.captions else "",
        "synthetic_texts": [text.caption.text for text in synthetic],
        "web_itm": web.caption.itm,
        "web_itc": web.caption.itc,
        "synthetic_itm": [text.caption.itm for text in synthetic],
        "synthetic_itc": [text.caption.itc for text in synthetic],
        "web_score": web.score,
        "synthetic_score": [text.score for text in synthetic],
        "kept": [text.text for text in decision.kept],
        "web_kept": decision.keeps(web),
        "synthetic_kept": [decision.keeps(text) for text in synthetic],
        "reason": decision.reason,
    }


def _count(counts: Counts, decision: Decision) -> None:
    counts.images += 1
    counts.web_kept += decision.keeps(decision.web)
    counts.synthetic += len(decision.synthetic)
    counts.synthetic_kept += sum(map(decision.keeps, decision.synthetic))
    if decision.reason:
        counts.dropped[decision.reason] += 1


def _say(counts: Counts, total: int) -> None:
    print(
        f"capfilt  {counts.images:,}/{total:,} images  web kept {counts.web_kept / counts.images:.0%}  "
        f"synthetic kept {counts.synthetic_kept / max(counts.synthetic, 1):.0%}  "
        f"dropped {sum(counts.dropped.values()):,}",
        flush=True,
    )

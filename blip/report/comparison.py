"""What `blip compare` measured, for programs, for a terminal and as a table of queries.

found = Comparison(Path("pairs/test"), "AMD EPYC, 2 threads", How(), {"retrieval": Side(...), "clip": Side(...)})
found.values()                 # as comparison.json
found.queries()                # rows of queries.csv
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from blip.tasks.comparison import Evaluated, How, Queries
from blip.tasks.difference import Compared, compare
from blip.tasks.retrieval import Head

HEADS: dict[Head, str] = {"itc": "embeddings", "itm": "re-ranked"}
WAYS = {"i2t": "image to text", "t2i": "text to image", "top": "classification"}


def named(measure: str) -> tuple[str, str]:
    """``image to text`` and ``R@5`` of ``i2t_r5``, ``classification`` and ``top 1`` of ``top1``."""
    way, _, at = measure.partition("_r")
    return (WAYS[way], f"R@{at}") if at else (WAYS["top"], f"top {measure.removeprefix('top')}")


def title_of(measure: str) -> str:
    """``image to text R@5`` of ``i2t_r5``."""
    return " ".join(named(measure))


@dataclass(frozen=True)
class Side:
    """A model of the comparison.

    Attributes:
        source: what it was opened by: a directory, a name in the registry, a file, a hub id.
        kind: ``BLIP`` or ``CLIP``.
    """

    source: str
    kind: str
    found: Evaluated


@dataclass(frozen=True)
class Comparison:
    """Models on one dataset, of which the first is what the others are held against."""

    dataset: Path
    machine: str
    how: How
    sides: dict[str, Side]

    @cached_property
    def compared(self) -> list[Compared]:
        """Each other model's heads beside those of the first."""
        return compare({name: side.found for name, side in self.sides.items()})

    @property
    def first(self) -> str:
        """The model that others are held against."""
        return next(iter(self.sides))

    @property
    def asked(self) -> Queries:
        """The queries, which are the same for all."""
        return self.sides[self.first].found.queries

    @property
    def headline(self) -> str:
        """What was compared on what."""
        asked = self.asked
        captions, texts = len(asked.caption_text), len(asked.texts)
        distinct = f" ({texts:,} distinct)" if texts < captions else ""
        return f"{len(self.sides)} models on {len(asked.keys):,} pictures and {captions:,} captions{distinct}"

    @property
    def rows(self) -> Iterator[tuple[str, Head, dict[str, float]]]:
        """Model, head and measures of every row of the table."""
        for name, side in self.sides.items():
            for head in side.found.heads:
                hits = side.found.hits(head)
                yield name, head, {measure: float(hit.double().mean()) for measure, hit in hits.items()}

    @property
    def measures(self) -> list[str]:
        """All that was measured, in the order of the table."""
        return list(next(self.rows)[2])

    @property
    def ways(self) -> dict[str, list[str]]:
        """The measures of each way, as their columns are called."""
        ways: dict[str, list[str]] = {}
        for way, at in map(named, self.measures):
            ways.setdefault(way, []).append(at)
        return ways

    def cut(self) -> Iterator[str]:
        """A sentence for every model that reads only the beginning of some texts."""
        for name, side in self.sides.items():
            cost = side.found.cost
            if cost.cut_texts:
                yield f"{name} reads only the beginning of {cost.cut_texts:,} of the {cost.texts:,} texts"

    def between(self, one: Compared) -> str:
        """Which heads of which models are beside each other."""
        return f"{one.other} ({HEADS[one.other_head]}) less {self.first} ({HEADS[one.first_head]})"

    def values(self) -> dict[str, Any]:
        """All of it for programs: shares, not per cent."""
        asked = self.asked
        return {
            "dataset": str(self.dataset),
            "pictures": len(asked.keys),
            "captions": len(asked.caption_text),
            "texts": len(asked.texts),
            "machine": self.machine,
            "batch_size": self.how.batch_size,
            "rerank": self.how.rerank,
            "rerank_by": self.how.rerank_by,
            "templates": list(self.how.templates) if "top1" in self.measures else [],
            "models": {name: self._side(name, side) for name, side in self.sides.items()},
            "differences": [self._compared(one) for one in self.compared],
        }

    def queries(self) -> Iterator[dict[str, object]]:
        """A row for every query: what was asked, and the rank of the best right candidate by each model and head."""
        heads = [
            (f"{name}, {HEADS[head]}", side.found.heads[head].ranks)
            for name, side in self.sides.items()
            for head in side.found.heads
        ]
        asked = self.asked
        texts = [asked.texts[text] for text in asked.caption_text.tolist()]
        owners = [asked.keys[image] for image in asked.caption_image.tolist()]
        for way, rows in (
            ("image_to_text", zip(asked.keys, asked.caption_of, strict=True)),
            ("text_to_image", zip(owners, texts, strict=True)),
        ):
            columns = [getattr(ranks, way).tolist() for _, ranks in heads]
            for (key, text), *ranks in zip(rows, *columns, strict=True):
                named = zip((name for name, _ in heads), ranks, strict=True)
                yield {"key": key, "direction": way.replace("_", " "), "text": text, **dict(named)}
        yield from self._classes()

    def _classes(self) -> Iterator[dict[str, object]]:
        """A row for every picture that has a label; only embeddings classify."""
        found = {name: side.found.classified for name, side in self.sides.items()}
        ranked = {
            f"{name}, {HEADS['itc']}": one.ranks_N.tolist() for name, one in found.items() if one is not None
        }
        one = found[self.first]
        if one is not None:
            for row, (key, target) in enumerate(zip(one.keys, one.target_N.tolist(), strict=True)):
                ranks = {name: values[row] for name, values in ranked.items()}
                yield {"key": key, "direction": WAYS["top"], "text": one.classes[target], **ranks}

    def _side(self, name: str, side: Side) -> dict[str, Any]:
        cost = side.found.cost
        return {
            "model": side.source,
            "kind": side.kind,
            "parameters": cost.parameters,
            "image_size": cost.image_size,
            "images_per_second": cost.images_per_second,
            "texts_per_second": cost.texts_per_second,
            "rerank_seconds": cost.rerank_seconds,
            "cut_texts": cost.cut_texts,
            "heads": {HEADS[head]: measures for other, head, measures in self.rows if other == name},
        }

    def _compared(self, one: Compared) -> dict[str, Any]:
        return {
            "first": self.first,
            "first_head": HEADS[one.first_head],
            "other": one.other,
            "other_head": HEADS[one.other_head],
            "measures": {
                found.measure: {name: value for name, value in asdict(found).items() if name != "measure"}
                | {"within_chance": found.within_chance}
                for found in one.differences
            },
        }

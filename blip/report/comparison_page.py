"""What `blip compare --out DIR` writes: figures, a row a query, a picture, and a page with what models disagree on.

    write(found, PairsDataset.open("pairs/test"), Path("compared"))
    # compared/comparison.json, queries.csv, comparison.png, index.html

The page is one HTML file without scripts or outside resources.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from torch import Tensor

from blip.atomic import atomic_path, write_json, write_text
from blip.data.pairs import PairsDataset
from blip.inspection.contents import samples_of
from blip.report.comparison import HEADS, WAYS, Comparison, title_of
from blip.report.comparison_charts import charts, picture
from blip.report.gallery import inline
from blip.report.templating import environment
from blip.tasks.comparison import Answers
from blip.tasks.difference import Compared

SHOWN = 4  # queries that one of two models alone gets right, of each direction
SEED = 0  # of their choice


@dataclass(frozen=True)
class Answer:
    """What a model ranked first: a text, or the key of a picture."""

    model: str
    first: str
    right: bool


@dataclass(frozen=True)
class Query:
    """A query of which two models differ: the picture's key, its caption, and what each model ranked first."""

    key: str
    caption: str
    answers: tuple[Answer, Answer]


@dataclass(frozen=True)
class Differing:
    """Two heads of two models, with queries that one of them alone gets right, by direction."""

    title: str
    ways: dict[str, list[Query]]


def write(found: Comparison, pairs: PairsDataset, target: Path) -> None:
    """Write the folder as a whole, or not at all."""
    with atomic_path(target) as folder:
        folder.mkdir()
        write_json(folder / "comparison.json", found.values())
        with (folder / "queries.csv").open("w", newline="", encoding="utf-8") as handle:
            rows = list(found.queries())
            table = csv.DictWriter(handle, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        picture(found).savefig(folder / "comparison.png", dpi=130)
        write_text(folder / "index.html", page(found, pairs))


def page(found: Comparison, pairs: PairsDataset) -> str:
    """The HTML of the page."""
    differing = [_differing(found, one) for one in _best(found)]
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            found=found,
            reranked=any("itm" in side.found.heads for side in found.sides.values()),
            ways=found.ways,
            shares=charts(found, "share"),
            gains=charts(found, "gain"),
            heads=HEADS,
            title_of=title_of,
            shown=SHOWN,
            differing=differing,
            pictures=_pictures(differing, pairs),
        )
    )


def _best(found: Comparison) -> list[Compared]:
    """Of every other model its last head beside the first model's: re-ranked, where there is one."""
    return list({one.other: one for one in found.compared}.values())


def _differing(found: Comparison, one: Compared) -> Differing:
    names = (found.first, one.other)
    heads = (one.first_head, one.other_head)
    sides = [found.sides[name].found.heads[head] for name, head in zip(names, heads, strict=True)]
    title = " and ".join(f"{name} ({HEADS[head]})" for name, head in zip(names, heads, strict=True))
    return Differing(title, {WAYS[way]: list(_queries(found, way, sides, names)) for way in ("i2t", "t2i")})


def _queries(found: Comparison, way: str, sides: list[Answers], names: tuple[str, str]) -> Iterator[Query]:
    """Some queries that the first gets right alone, then some of the other's."""
    asked, hits = found.asked, [side.hits[f"{way}_r1"] for side in sides]
    for chosen in (hits[0] & ~hits[1], hits[1] & ~hits[0]):
        for row in _drawn(chosen):
            image = row if way == "i2t" else int(asked.caption_image[row])
            caption = asked.caption_of[row] if way == "i2t" else asked.texts[int(asked.caption_text[row])]
            first, other = (
                Answer(name, _first(found, way, side, row), bool(hit[row]))
                for name, side, hit in zip(names, sides, hits, strict=True)
            )
            yield Query(asked.keys[image], caption, (first, other))


def _drawn(chosen_Q: Tensor) -> list[int]:
    rows = chosen_Q.nonzero()[:, 0].tolist()
    return sorted(Random(SEED).sample(rows, min(SHOWN, len(rows))))


def _first(found: Comparison, way: str, side: Answers, row: int) -> str:
    asked = found.asked
    return (
        asked.texts[int(side.best_text_N[row])] if way == "i2t" else asked.keys[int(side.best_image_Q[row])]
    )


def _pictures(differing: list[Differing], pairs: PairsDataset) -> Mapping[str, str]:
    """Data URIs by key of the pictures that the queries are of or that models ranked first."""
    keys = {
        key
        for one in differing
        for way, queries in one.ways.items()
        for query in queries
        for key in ([query.key] if way == WAYS["i2t"] else [answer.first for answer in query.answers])
    }
    return {key: inline(one.media) for key, one in samples_of(pairs, keys).items()} if keys else {}

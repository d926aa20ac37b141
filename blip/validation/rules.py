"""What is expected of a dataset, by its kind: rules, each one expectation of Great Expectations.

A critical rule stops the pipeline. The others, and those critical ones that allow for a share of exceptions,
set the samples aside that break them. The thresholds are those of params.yaml, section `validate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip.config import Source, Validate
from blip.data.text import CAPTION_WORDS
from blip.ingest.shares import Share

if TYPE_CHECKING:
    import pandas as pd

COPIES = frozenset({"duplicate", "near_duplicate"})  # columns that are known when all other rules are
REPEATS_FLOOR = 10  # a caption that so few samples share is no boilerplate, however small the dataset


@dataclass(frozen=True)
class Rule:
    """One expectation: what it demands in words, of which column, and what follows when it is broken.

    Attributes:
        name: how messages, pages and the list of samples set aside call it.
        demand: the sentence that a sample or dataset must make true.
        expectation: class of great_expectations.expectations, and its arguments.
        critical: a dataset that breaks it does not pass.
        sets_aside: samples that break it are left out by the stages that follow.
        way_out: what to do about it.
        observed: what was observed, where the expectation alone does not tell.
    """

    name: str
    demand: str
    expectation: str
    arguments: dict[str, Any] = field(default_factory=dict)
    critical: bool = True
    sets_aside: bool = False
    way_out: str = ""
    observed: str = ""

    def broken_in(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Which rows of facts break it; numbers that are not known break none."""
        values, wanted = frame[self.arguments["column"]], self.arguments
        if "value_set" in wanted:
            return ~values.isin(wanted["value_set"]).to_numpy()
        low, high = wanted.get("min_value"), wanted.get("max_value")
        broken = np.zeros(len(frame), np.bool_)
        if low is not None:
            broken |= (values < low).to_numpy()
        if high is not None:
            broken |= (values > high).to_numpy()
        return broken


def set_aside_by(rules: Sequence[Rule], frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows are set aside by rules that need no other row's picture."""
    lost = np.zeros(len(frame), np.bool_)
    for rule in rules:
        if rule.sets_aside and rule.arguments["column"] not in COPIES:
            lost |= rule.broken_in(frame)
    return lost


def rules(
    name: str, source: Source, settings: Validate, samples: int, refused: Sequence[Share], asks: bool = False
) -> list[Rule]:
    """The rules for a dataset.

    Args:
        samples: how many the manifest says there are.
        refused: what of the source was refused at ingest.
        asks: it has questions and not one caption.
    """
    found = [
        *_whole(name, samples, settings),
        *(_refused(share, settings) for share in refused if share.what == "samples" or share.bad),
        *_rows(name, source, settings),
    ]
    found += _pictures(source, settings)
    found += _questions(settings) if asks or source.kind == "vqa" else _captions(source, settings, samples)
    return found


def _whole(name: str, samples: int, settings: Validate) -> list[Rule]:
    again = f"make it again: remove data/datasets/{name} and run `dvc repro ingest`"
    return [
        Rule(
            "min_samples",
            f"there are at least {settings.min_samples:,} samples",
            "ExpectTableRowCountToBeBetween",
            {"min_value": settings.min_samples},
            way_out="add samples to its source, or lower validate.min_samples",
        ),
        Rule(
            "manifest_count",
            f"the table has the {samples:,} samples of the manifest",
            "ExpectTableRowCountToEqual",
            {"value": samples},
            way_out=again,
        ),
        Rule(
            "key_present",
            "every sample has a key",
            "ExpectColumnValuesToBeInSet",
            {"column": "key_missing", "value_set": [0]},
            way_out=again,
        ),
        Rule(
            "key_unique",
            "no key stands twice",
            "ExpectColumnValuesToBeInSet",
            {"column": "key_repeated", "value_set": [0]},
            way_out=f"give every image of the source a name of its own, then {again}",
        ),
    ]


def _refused(share: Share, settings: Validate) -> Rule:
    """What ingest refused, judged as there: samples among samples, texts among texts."""
    bad, limit = share.bad.total(), settings.max_bad_share or 0.0
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in share.bad.most_common())
    fewest = (
        max(math.ceil(round(bad / limit, 6)) - share.refused, 0) if limit else (share.kept + 1 if bad else 0)
    )
    of_texts = share.what == "texts"
    return Rule(
        "max_bad_share_of_texts" if of_texts else "max_bad_share",
        f"at most {limit * 100:g}% of the {share.what} of the source were refused at ingest",
        "ExpectColumnSumToBeBetween" if of_texts else "ExpectTableRowCountToBeBetween",
        {"column": share.what, "min_value": fewest} if of_texts else {"min_value": fewest},
        way_out="mend the source (`blip inspect` shows what was refused), or raise ingest.max_bad_fraction "
        "(or validate.max_bad_share, where that is set)",
        observed=f"{bad:,} of {share.total:,} {share.what} refused{f' ({reasons})' if reasons else ''}",
    )


def _rows(name: str, source: Source, settings: Validate) -> list[Rule]:
    origin = [
        Rule(
            "origin",
            f"the texts are of origin {source.origin!r}, as params.yaml says",
            "ExpectColumnValuesToBeInSet",
            {"column": "origin", "value_set": [source.origin]},
            way_out=f"correct ingest.datasets.{name}.origin, or the source",
        )
    ]
    found = [
        *(origin if source.kind != "pairs" else ()),  # whose captions have kept theirs
        Rule(
            "max_missing_share",
            f"at most {settings.max_missing_share * 100:g}% of the samples lack a size, digest, hash or origin",
            "ExpectColumnValuesToBeInSet",
            {"column": "missing_facts", "value_set": [0], "mostly": 1 - settings.max_missing_share},
            sets_aside=True,
            way_out=f"make it again: remove data/datasets/{name} and run `dvc repro ingest`",
        ),
    ]
    if source.role == "train":
        found.append(
            Rule(
                "not_in_evaluation",
                "no picture is one of an evaluation dataset",
                "ExpectColumnValuesToBeInSet",
                {"column": "in_evaluation", "value_set": [0]},
                way_out="run `dvc repro ingest`, which leaves such pictures out",
            )
        )
    return found


def _pictures(source: Source, settings: Validate) -> list[Rule]:
    sides = [
        Rule(
            f"{side}_known",
            f"the {side} is known",
            "ExpectColumnValuesToBeBetween",
            {"column": side, "min_value": 1},
            way_out="ingest the source again; it could not tell the size of a picture",
        )
        for side in ("width", "height")
    ]
    return [
        *sides,
        Rule(
            "min_side",
            f"the short side has at least {settings.min_side} pixels",
            "ExpectColumnValuesToBeBetween",
            {"column": "short_side", "min_value": settings.min_side},
            critical=False,
            sets_aside=True,
        ),
        Rule(
            "max_aspect_ratio",
            f"the long side is at most {settings.max_aspect_ratio:g} times the short one",
            "ExpectColumnValuesToBeBetween",
            {"column": "aspect_ratio", "max_value": settings.max_aspect_ratio},
            critical=False,
            sets_aside=True,
        ),
        Rule(
            "max_duplicate_share",
            f"at most {settings.max_duplicate_share * 100:g}% of the files came before",
            "ExpectColumnValuesToBeInSet",
            {"column": "duplicate", "value_set": [0], "mostly": 1 - settings.max_duplicate_share},
            sets_aside=True,
            way_out="take the copies out of the source, or raise validate.max_duplicate_share; lists of URLs that "
            "share their pictures are a dataset each",
        ),
        *_near_duplicates(settings),
    ]


def _near_duplicates(settings: Validate) -> list[Rule]:
    """Pictures that look alike are reported; they are left out where the settings say so."""
    share = settings.max_near_duplicate_share
    if share is None:
        return []
    return [
        Rule(
            "max_near_duplicate_share",
            f"at most {share * 100:g}% of the pictures look like one before "
            f"({settings.near_duplicate_bits} of 64 bits of the hash differ at most)",
            "ExpectColumnValuesToBeInSet",
            {"column": "near_duplicate", "value_set": [0], "mostly": 1 - share},
            critical=False,
            sets_aside=settings.near_duplicates == "set_aside",
        )
    ]


def _questions(settings: Validate) -> list[Rule]:
    return [_at_least_one("questions", settings)]


def _captions(source: Source, settings: Validate, samples: int) -> list[Rule]:
    fewest, most = settings.caption_words
    found = [
        _at_least_one("captions", settings),
        _warning(
            "caption_words_min", f"a caption has at least {fewest} word(s)", "longest_caption", low=fewest
        ),
        _warning("caption_words_max", f"a caption has at most {most} words", "shortest_caption", high=most),
        _warning(
            "max_non_ascii_share",
            f"at most {settings.max_non_ascii_share * 100:g}% of the characters of a caption are beyond ASCII",
            "non_ascii_share",
            high=settings.max_non_ascii_share,
        ),
        _warning(
            "min_letter_share",
            f"at least {settings.min_letter_share * 100:g}% of the characters of a caption, spaces apart, are letters",
            "letter_share",
            low=settings.min_letter_share,
        ),
        _warning(
            "max_control_characters",
            f"a caption has at most {settings.max_control_characters} characters that steer and show nothing",
            "control_characters",
            high=settings.max_control_characters,
        ),
    ]
    if source.origin == "web":
        repeats = max(REPEATS_FLOOR, math.ceil(settings.max_caption_repeats * samples))
        demand = f"at most {repeats:,} samples have captions with the same first {CAPTION_WORDS} words"
        found.append(_warning("max_caption_repeats", demand, "caption_repeats", high=repeats))
    return found


def _at_least_one(what: str, settings: Validate) -> Rule:
    share = settings.max_excluded_share
    return Rule(
        f"has_{what}",
        f"at most {share * 100:g}% of the samples have no {what}",
        "ExpectColumnValuesToBeBetween",
        {"column": what, "min_value": 1, "mostly": 1 - share},
        sets_aside=True,
        way_out=f"see that the source's table names its images as they are called and has {what} for them",
    )


def _warning(
    name: str, demand: str, column: str, low: float | None = None, high: float | None = None
) -> Rule:
    arguments = {"column": column, "min_value": low, "max_value": high}
    return Rule(name, demand, "ExpectColumnValuesToBeBetween", arguments, critical=False, sets_aside=True)

"""The figures of a bootstrapped dataset against a pool whose truth is known, counted by hand."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.errors import BlipError
from blip.stages.bootstrapping import truth_figures

from .conftest import pictures

# key, whether the web text is right, its score, synthetic captions with whether they were kept
ROWS = [
    ("a", 1, 0.9, [("a cat", True), ("a dog", False)]),
    # The right one was dropped, a wrong one kept: not rescued
    ("b", 0, 0.2, [("a cat", False), ("a dog", True)]),
    ("c", 0, 0.8, [("a cat", True), ("a cat", True)]),
    ("d", 1, 0.3, [("a dog", False), ("a dog", False)]),
]


def pool(folder: Path, said: Callable[[int], int | str] = int) -> PairsDataset:
    """A pool of cats that says in its own way which of its texts are right."""
    media = next(pictures("web")).media
    with PairsWriter(folder, samples_per_shard=4, parents=[], parameters={}) as writer:
        for number, (key, right, *_) in enumerate(ROWS):
            truth = {"matched": said(right), "caption_true": "a cat", "noise": ""}
            sample = Sample(key, media, "webp", (Caption(f"text {key}", "web"),), truth=truth)
            writer.add(sample, phash=number)
    return PairsDataset.open(folder)


@pytest.fixture
def judged(tmp_path: Path) -> tuple[PairsDataset, Path]:
    """A pool of cats and the audit of it."""
    table = [
        {
            "key": key,
            "web_texts": [f"text {key}"],
            "web_kept": [score >= 0.5],
            **{f"web_{head}": [score] for head in ("score", "itm", "itc")},
            "synthetic_texts": [text for text, _ in captions],
            "synthetic_kept": [kept for _, kept in captions],
        }
        for key, _, score, captions in ROWS
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "audit.parquet")
    return pool(tmp_path / "web"), tmp_path / "audit.parquet"


def test_the_filter_is_measured_on_the_web_texts(judged: tuple[PairsDataset, Path]) -> None:
    figures = truth_figures(*judged)
    assert figures["filter.roc_auc"] == 3 / 4
    assert (figures["filter.precision"], figures["filter.recall"]) == (1 / 2, 1 / 2)


def test_a_picture_is_rescued_by_a_right_caption_that_was_kept(judged: tuple[PairsDataset, Path]) -> None:
    figures = truth_figures(*judged)
    assert figures["capfilt.rescued"] == 1 / 2
    assert figures["capfilt.synthetic_right"] == 4 / 8
    assert figures["capfilt.synthetic_right_kept"] == 3 / 4


def test_pictures_whose_truth_is_not_known_do_not_count(
    tmp_path: Path, judged: tuple[PairsDataset, Path]
) -> None:
    media = next(pictures("web")).media
    with PairsWriter(tmp_path / "some", samples_per_shard=4, parents=[], parameters={}) as writer:
        for number, (key, right, *_) in enumerate(ROWS):
            truth = {"matched": right, "caption_true": "a cat", "noise": ""} if key in "ab" else None
            writer.add(
                Sample(key, media, "webp", (Caption(f"text {key}", "web"),), truth=truth), phash=number
            )
    figures = truth_figures(PairsDataset.open(tmp_path / "some"), judged[1])
    assert (figures["filter.roc_auc"], figures["filter.precision"], figures["filter.recall"]) == (
        1.0,
        1.0,
        1.0,
    )
    assert figures["capfilt.synthetic_right"] == 2 / 4


def test_the_truth_may_be_said_in_words(tmp_path: Path, judged: tuple[PairsDataset, Path]) -> None:
    words = pool(tmp_path / "words", lambda right: "True" if right else "False")
    assert truth_figures(words, judged[1]) == truth_figures(*judged)
    with pytest.raises(BlipError, match=r"vague/metadata\.parquet, sample a: truth_matched is 'maybe'"):
        truth_figures(pool(tmp_path / "vague", lambda _: "maybe"), judged[1])


def test_without_any_wrong_text_there_is_no_curve(tmp_path: Path, judged: tuple[PairsDataset, Path]) -> None:
    audit = pq.read_table(judged[1])
    pq.write_table(audit.slice(0, 1), tmp_path / "one.parquet")
    figures = truth_figures(judged[0], tmp_path / "one.parquet")
    assert "filter.roc_auc" not in figures and figures["filter.precision"] == 1.0
    pq.write_table(audit.slice(0, 0), tmp_path / "none.parquet")
    assert truth_figures(judged[0], tmp_path / "none.parquet") == {}


def test_where_nothing_is_kept_there_is_no_share_of_what_is_kept(
    tmp_path: Path, judged: tuple[PairsDataset, Path]
) -> None:
    nothing = {"web_kept": [False], "synthetic_kept": [False, False]}
    rows = [row | nothing for row in pq.read_table(judged[1]).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "nothing.parquet")
    figures = truth_figures(judged[0], tmp_path / "nothing.parquet")
    assert figures.keys().isdisjoint({"filter.precision", "capfilt.synthetic_right_kept"})
    assert (figures["filter.recall"], figures["capfilt.rescued"]) == (0, 0)


def test_of_a_pool_whose_truth_is_not_known_no_row_is_read(
    tmp_path: Path, judged: tuple[PairsDataset, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    media = next(pictures("web")).media
    with PairsWriter(tmp_path / "unknown", samples_per_shard=4, parents=[], parameters={}) as writer:
        writer.add(Sample("a", media, "webp", (Caption("a cat", "web"),)), phash=1)

    def read(*_: object, **__: object) -> None:
        raise AssertionError("rows were read")

    for name in ("read_table", "ParquetFile"):
        monkeypatch.setattr(pq, name, read)
    assert truth_figures(PairsDataset.open(tmp_path / "unknown"), judged[1]) == {}

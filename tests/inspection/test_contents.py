"""What inspection sees: counts, histograms, samples from everywhere, what was left out by whom."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data.pairs import Caption, PairsDataset, PairsWriter, Question, Sample
from blip.errors import BlipError
from blip.inspection.contents import inspect_dataset, left_out, samples_of, spread
from tests.data.conftest import draw, encoded, sample

Make = Callable[..., PairsDataset]


def write(directory: Path, samples: list[Sample], refused: int = 0) -> PairsDataset:
    with PairsWriter(directory, samples_per_shard=3, parents=[], parameters={}, origin="web") as writer:
        for entry in samples:
            writer.add(entry)
        for number in range(refused):
            writer.quarantine(f"bad-{number}", "truncated" if number else "empty", f"detail {number}", b"x")
    return PairsDataset.open(directory)


def set_aside(directory: Path, name: str, rows: list[tuple[str, str, str]]) -> None:
    (directory / "validated").mkdir()
    columns = {
        "key": [r[0] for r in rows],
        "expectation": [r[1] for r in rows],
        "detail": [r[2] for r in rows],
    }
    pq.write_table(pa.table(columns), directory / f"validated/{name}.parquet")


def test_counts_and_histograms_are_those_of_the_table(tmp_path: Path) -> None:
    texts = (Caption("a red apple!", "web"), Caption("apple", "synthetic"))
    wide = Sample("wide", encoded(draw(1, 200, 50)), "png", texts)
    tall = Sample("tall", encoded(draw(2, 40, 80)), "png", (Caption("one two three", "human"),))
    seen = inspect_dataset(write(tmp_path / "d", [wide, tall]).path)
    assert (len(seen.dataset), seen.captions, seen.questions) == (2, 3, 0)
    assert seen.origins == {"web": 1, "synthetic": 1, "human": 1}
    labels = {
        name: [(b.label, b.count) for b in each.bars(99) if b.count] for name, each in seen.histograms.items()
    }
    assert labels["short side"] == [("32 - 47", 1), ("48 - 63", 1)]
    assert labels["aspect ratio"] == [("0.5 - 0.67", 1), ("4+", 1)]
    assert labels["caption words"] == [("1", 1), ("3", 2)]
    assert labels["captions an image"] == [("1", 1), ("2", 1)]
    assert seen.histograms["file size"].total == len(wide.media) + len(tall.media)
    assert "questions an image" not in seen.histograms


def test_questions_take_the_place_of_captions(tmp_path: Path) -> None:
    asked = (Question("what?", {"circle": 1.0}, True), Question("red?", {"no": 1.0}, False))
    seen = inspect_dataset(write(tmp_path / "d", [sample(0, captions=(), questions=asked)]).path)
    assert (seen.captions, seen.questions, seen.origins) == (0, 2, {"web": 2})
    assert "caption words" not in seen.histograms
    assert seen.histograms["questions an image"].told == "all 2 questions"


def test_what_ingest_and_validation_left_out_stands_by_reason(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d", [sample(n) for n in range(4)], refused=9)
    set_aside(tmp_path, "d", [("key-00001", "min_side", "short_side 20")])
    groups = left_out(dataset)
    assert [(g.by, g.reason, g.count, len(g.examples)) for g in groups] == [
        ("ingest", "truncated", 8, 6),
        ("ingest", "empty", 1, 1),
        ("validation", "min_side", 1, 1),
    ]
    assert (groups[0].examples[0].key, groups[0].examples[0].detail) == ("bad-1", "detail 1")
    assert groups[1].examples[0].payload.read() == b"x"
    assert (groups[2].examples[0].key, groups[2].examples[0].detail) == ("key-00001", "short_side 20")


def test_before_validation_nothing_is_set_aside(make_dataset: Make) -> None:
    assert left_out(make_dataset()) == []


@pytest.mark.parametrize(
    ("count", "keys"), [(3, [1, 5, 8]), (10, range(10)), (99, range(10)), (1, [5]), (0, [])]
)
def test_samples_are_spread_evenly_over_the_shards(make_dataset: Make, count: int, keys: list[int]) -> None:
    dataset = make_dataset(count=10, per_shard=4)
    assert [entry.key for entry in spread(dataset, count)] == [f"key-{number:05d}" for number in keys]


def test_samples_are_found_by_key_in_their_shards_alone(make_dataset: Make) -> None:
    dataset = make_dataset(count=10, per_shard=4)
    (dataset.path / dataset.manifest.shards[0].url).unlink()
    found = samples_of(dataset, {"key-00005", "key-00009", "unknown"})
    assert {key: entry.media for key, entry in found.items()} == {
        "key-00005": encoded(draw(5)),
        "key-00009": encoded(draw(9)),
    }


def test_a_damaged_quarantine_is_named(make_dataset: Make) -> None:
    dataset = make_dataset()
    (dataset.path / "quarantine/index.parquet").write_bytes(b"")
    with pytest.raises(BlipError, match=r"quarantine/index\.parquet cannot be read"):
        inspect_dataset(dataset.path)

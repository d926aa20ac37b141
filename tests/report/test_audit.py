"""What CapFilt did, counted and sampled."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.capfilt.decision import SCHEMA
from blip.data.pairs import Caption, PairsWriter, Sample
from blip.errors import BlipError
from blip.report.audit import BINS, Audit, pictures, read_audit

PICTURE = bytes.fromhex("89504e470d0a1a0a") + b"never decoded here"  # the hash is given, and so is the size
ROWS: list[tuple[str, float, float, int, str]] = [  # key, web score, synthetic score, right, noise
    ("a", 0.9, 0.8, 1, ""),
    ("b", 0.2, 0.7, 0, "shop"),
    ("c", 0.1, 0.3, 0, "shop"),
    ("d", 0.6, 0.1, 0, "camera_file"),
    ("e", 0.4, 0.9, 1, ""),
]


def write(folder: Path, *, truth: bool = True, copies: int = 1) -> tuple[Path, Path]:
    rows = [(f"{row[0]}-{n}", *row[1:]) for n in range(copies) for row in ROWS]
    with PairsWriter(folder / "web", samples_per_shard=2, parents=[], parameters={}) as writer:
        for number, (key, _, _, right, noise) in enumerate(rows):
            known = {"matched": right, "caption_true": f"label {key}", "noise": noise} if truth else None
            caption = (Caption("text", "web"),)
            sample = Sample(key, PICTURE + key.encode(), "png", caption, width=9, height=9, truth=known)
            writer.add(sample, phash=number)
    table = [
        {
            "key": key,
            "web_texts": [f"web {key}"],
            "synthetic_texts": [f"made {key}"],
            "web_itm": [1 - web],
            "web_score": [web],
            "web_itc": [2 * web - 1],
            "synthetic_itm": [1 - made],
            "synthetic_score": [made],
            "synthetic_itc": [0.1],
            "kept": [],
            "web_kept": [web >= 0.5],
            "synthetic_kept": [made >= 0.5],
            "reason": "",
        }
        for key, web, made, *_ in rows
    ]
    (folder / "bootstrapped").mkdir()
    pq.write_table(pa.Table.from_pylist(table, SCHEMA), folder / "bootstrapped/audit.parquet")
    return folder / "bootstrapped", folder / "web"


def read(folder: Path, **options: bool | int) -> Audit:
    audit = read_audit(*write(folder, **options), seed=7)  # type: ignore[arg-type]
    assert audit is not None
    return audit


def test_there_is_no_audit_before_capfilt_has_run(tmp_path: Path) -> None:
    assert read_audit(tmp_path, tmp_path, seed=7) is None


def test_pictures_are_kept_rescued_or_dropped(tmp_path: Path) -> None:
    audit = read(tmp_path)
    assert (audit.count("kept"), audit.count("rescued"), audit.count("dropped")) == (2, 2, 1)
    assert audit.count("rescued", right=False) == 1
    assert (audit.synthetic, audit.synthetic_kept, audit.both) == (5, 3, 1)


def test_the_share_of_wrong_texts_falls(tmp_path: Path) -> None:
    audit = read(tmp_path)
    assert audit.wrong_share() == 3 / 5
    assert audit.wrong_share("kept") == 1 / 2


def test_noise_is_counted_by_kind_with_what_got_through(tmp_path: Path) -> None:
    assert read(tmp_path).noise == {"shop": [2, 0], "camera_file": [1, 1]}


def test_scores_are_binned_by_truth(tmp_path: Path) -> None:
    audit = read(tmp_path)
    assert sum(audit.histograms["score", "web right"]) == 2
    assert sum(audit.histograms["score", "web wrong"]) == 3
    assert audit.histograms["score", "web right"][int(0.9 * BINS)] == 1
    assert sum(audit.histograms["score", "synthetic"]) == 5


def test_a_pool_without_truth_is_counted_without(tmp_path: Path) -> None:
    audit = read(tmp_path, truth=False)
    assert not audit.knows_truth
    assert audit.count("kept") == 2
    assert set(audit.histograms) == {("score", "web"), ("itc", "web"), ("score", "synthetic")}
    assert audit.chosen["dropped", None][0].label == ""


def test_a_few_of_each_outcome_are_chosen_by_seed(tmp_path: Path) -> None:
    bootstrapped, web = write(tmp_path, copies=20)
    first, again, other = (read_audit(bootstrapped, web, seed=seed, shown=4) for seed in (7, 7, 8))
    assert first and again and other
    assert len(first.chosen["rescued", False]) == 4
    assert first.chosen == again.chosen
    assert first.chosen != other.chosen


def test_only_the_pictures_asked_for_are_read(tmp_path: Path) -> None:
    _, web = write(tmp_path)
    (web / "shards/00000.tar").unlink()  # holds a-0 and b-0
    assert pictures(web, frozenset({"d-0"})) == {"d-0": PICTURE + b"d-0"}


def test_an_audit_with_other_columns_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "audit.parquet")
    with pytest.raises(BlipError, match=r"audit\.parquet has no column"):
        read_audit(tmp_path, tmp_path, seed=7)

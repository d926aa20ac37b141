"""What CapFilt did, counted and sampled."""

import math
from collections import Counter
from html import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.capfilt.decision import SCHEMA
from blip.data.pairs import Caption, PairsWriter, Sample
from blip.errors import BlipError
from blip.report.audit import BINS, Audit, read_audit
from blip.report.decision import Text, log_odds
from blip.report.templating import environment

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
            "web_neighbours": [0.0],
            "web_likelihood": [0.0],
            "synthetic_itm": [1 - made],
            "synthetic_score": [made],
            "synthetic_itc": [0.1],
            "synthetic_neighbours": [0.0],
            "synthetic_likelihood": [0.0],
            "web_reason": ["" if web >= 0.5 else "no_match"],
            "synthetic_reason": ["" if made >= 0.5 else "repeats"],
            "reason": "" if max(web, made) >= 0.5 else "no_match",
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


def test_pictures_are_kept_replaced_or_dropped(tmp_path: Path) -> None:
    audit = read(tmp_path)
    assert (audit.count("kept"), audit.count("replaced"), audit.count("dropped")) == (2, 2, 1)
    assert audit.count("replaced", right=False) == 1
    assert (audit.judged("synthetic"), audit.kept("synthetic"), audit.both) == (5, 3, 1)


def test_a_caption_that_repeats_the_kept_web_text_is_no_further_text(tmp_path: Path) -> None:
    bootstrapped, web = write(tmp_path)
    rows = pq.read_table(bootstrapped / "audit.parquet").to_pylist()
    rows[0] |= {"web_texts": ["Red  apple"], "synthetic_texts": ["red apple"]}
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), bootstrapped / "audit.parquet")

    audit = read_audit(bootstrapped, web, seed=7)

    assert audit
    assert audit.once == {"web": 2, "synthetic": 2}
    assert (audit.kept("web"), audit.kept("synthetic"), audit.both, audit.repeated) == (2, 3, 0, 1)
    macros = environment().get_template("bootstrapping.html.j2").module
    assert "in the dataset once: 1." in macros.text_table(audit)  # type: ignore[attr-defined]


def test_what_is_dropped_is_counted_by_reason(tmp_path: Path) -> None:
    audit = read(tmp_path)
    assert audit.texts["web", "no_match"] == 3
    assert audit.texts["synthetic", "repeats"] == 2
    assert audit.text_reasons == ["no_match", "repeats"]
    assert audit.reasons == {"no_match": 1}


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
    assert audit.histograms["score", "web right"][int((log_odds(0.9) + 14) / 28 * BINS)] == 1
    assert sum(audit.histograms["score", "synthetic"]) == 5


def test_a_pool_without_truth_is_counted_without(tmp_path: Path) -> None:
    audit = read(tmp_path, truth=False)
    assert not audit.knows_truth
    assert audit.count("kept") == 2
    assert set(audit.histograms) == {("score", "web"), ("itc", "web"), ("score", "synthetic")}
    assert audit.chosen["dropped", None][0].known.label == ""


def test_a_few_of_each_outcome_are_chosen_by_seed(tmp_path: Path) -> None:
    bootstrapped, web = write(tmp_path, copies=20)
    first, again, other = (read_audit(bootstrapped, web, seed=seed, shown=4) for seed in (7, 7, 8))
    assert first and again and other
    assert len(first.chosen["replaced", False]) == 4
    assert first.chosen == again.chosen
    assert first.chosen != other.chosen
    assert first.sample == again.sample != other.sample


def test_workers_count_and_choose_what_one_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrapped, web = write(tmp_path, copies=20)
    rows = pq.read_table(bootstrapped / "audit.parquet")
    pq.write_table(rows, bootstrapped / "audit.parquet", row_group_size=7)
    monkeypatch.setenv("BLIP_WORKERS", "2")
    alone = read_audit(bootstrapped, web, seed=7, shown=4, by="shard")
    monkeypatch.setattr("blip.report.audit.ALONE", 0)
    shared = read_audit(bootstrapped, web, seed=7, shown=4, by="shard")
    assert alone and shared
    assert shared.sources.largest(100) == alone.sources.largest(100)
    alone.sources = shared.sources
    assert shared == alone
    assert [*shared.texts, *shared.chosen] == [*alone.texts, *alone.chosen]


def test_an_image_with_several_web_texts_is_kept_for_any_of_them(tmp_path: Path) -> None:
    bootstrapped, web = write(tmp_path)
    rows = pq.read_table(bootstrapped / "audit.parquet").to_pylist()
    rows[1] |= {
        "web_texts": ["first", "second", "Second"],
        "web_score": [0.1, 0.9, 0.8],
        "web_itc": [0.0, 0.5, 0.5],
        "web_neighbours": [-2.0, 1.5, 0.0],
        "web_likelihood": [-1.0, -1.0, 0.0],
        "web_reason": ["no_match", "", ""],
    }
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), bootstrapped / "audit.parquet")

    audit = read_audit(bootstrapped, web, seed=7)

    assert audit
    assert (audit.judged("web"), audit.kept("web"), audit.count("kept")) == (7, 4, 3)
    [b] = [one for one in audit.chosen["kept", False] if one.key == "b-0"]
    assert [text.text for text in b.kept] == ["second", "made b-0"]
    assert [text.voices for text in b.of("web")] == [
        pytest.approx({"filter": math.log(1 / 9) + 3, "similar pictures": -2, "captioner": -1}),
        pytest.approx({"filter": math.log(9) - 0.5, "similar pictures": 1.5, "captioner": -1}),
        {},  # the filter alone
    ]


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_of_a_score_that_was_rounded_to_0_or_1_the_filter_has_no_voice(score: float) -> None:
    text = Text("red apple", "web", score, neighbours=-20.0, likelihood=0.0, reason="")
    assert text.voices == {"similar pictures": -20.0}


def test_an_audit_of_another_pool_is_refused(tmp_path: Path) -> None:
    bootstrapped, _ = write(tmp_path)
    _, other = write(tmp_path / "other", copies=2)
    rows = pq.read_table(bootstrapped / "audit.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist(rows[::-1], SCHEMA), bootstrapped / "audit.parquet")
    with pytest.raises(BlipError, match=r"other/web has no sample d-0, or not in the audit's order"):
        read_audit(bootstrapped, other, seed=7)


def test_an_audit_with_other_columns_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "audit.parquet")
    with pytest.raises(BlipError, match=r"audit\.parquet has no column"):
        read_audit(tmp_path, tmp_path, seed=7)


def test_texts_whose_truth_is_not_known_are_neither_right_nor_wrong() -> None:
    kinds = {("kept", True): 6, ("kept", False): 2, ("dropped", False): 4, ("kept", None): 88}
    audit = Audit(outcomes=Counter(kinds))  # type: ignore[arg-type]
    assert (audit.known(), audit.known("kept"), audit.known("replaced")) == (12, 8, 0)
    assert (audit.wrong_share(), audit.wrong_share("kept"), audit.wrong_share("replaced")) == (
        6 / 12,
        2 / 8,
        None,
    )


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (0.0001, "<0.001"),
        (0.004, "0.004"),
        (0.5, "0.50"),
        (0.9949, "0.99"),
        (0.9958, "0.996"),
        (0.99968, "0.99968"),
    ],
)
def test_a_score_just_below_a_threshold_near_1_does_not_read_as_1(score: float, said: str) -> None:
    text = Text("red apple", "web", score, neighbours=0.0, likelihood=0.0, reason="no_match")
    macros = environment().get_template("bootstrapping.html.j2").module
    card = macros.judged(text, {"web": 0.9999})  # type: ignore[attr-defined]
    assert f'<span class="score">{escape(said)}</span>' in card


def test_the_page_says_of_how_many_pictures_the_truth_is_known() -> None:
    macros = environment().get_template("bootstrapping.html.j2").module
    known = {("kept", True): 3, ("dropped", False): 1}
    for outcomes, said, groups in ((known, False, 2), (known | {("kept", None): 4}, True, 3)):
        audit = Audit(outcomes=Counter(outcomes))  # type: ignore[arg-type]
        assert ("Wrong, share of the known" in macros.outcome_table(audit)) == said  # type: ignore[attr-defined]
        assert macros.outcome_bars(audit).count("<dt>") == groups  # type: ignore[attr-defined]
        assert "25.0%" in macros.outcome_table(audit)  # type: ignore[attr-defined]

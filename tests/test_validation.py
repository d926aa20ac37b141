"""Bad datasets stop, odd samples are set aside, pages say why."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.config import Source, Validate, load_settings
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Question, Sample, excluded_keys
from blip.errors import BlipError
from blip.validation import Verdict, validate, write_validated
from blip.validation.checkpoint import Checks
from blip.validation.facts import facts, with_copies
from blip.validation.rules import rules, set_aside_by
from tests.data.conftest import draw, encoded, sample

THRESHOLDS: Validate = load_settings(Path(__file__).parents[1] / "params.yaml").validate_
HUMAN = Source(source="human", kind="table", origin="human", role="train")
WEB = Source(source="web", kind="table", origin="web", role="train")
VQA = Source(source="vqa", kind="vqa", origin="human", role="train")
TEST = Source(source="test", kind="table", origin="human", role="evaluation")

Check = Callable[..., Verdict]


def captioned(number: int, *texts: str, origin: str = "human") -> Sample:
    return sample(number, captions=tuple(Caption(text, origin) for text in texts))


def good(count: int, first: int = 0, origin: str = "human") -> list[Sample]:
    return [captioned(first + n, f"picture number {first + n}", origin=origin) for n in range(count)]


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., PairsDataset]:
    def make(samples: list[Sample], name: str = "pairs") -> PairsDataset:
        with PairsWriter(tmp_path / name, samples_per_shard=32, parents=[], parameters={}) as writer:
            for entry in samples:
                writer.add(entry)
        return PairsDataset.open(tmp_path / name)

    return make


@pytest.fixture
def check(tmp_path: Path, dataset: Callable[..., PairsDataset]) -> Check:
    """Validate one dataset with the thresholds of params.yaml."""

    def run(samples: list[Sample], source: Source = HUMAN, **thresholds: object) -> Verdict:
        settings = THRESHOLDS.model_copy(update=thresholds)
        (verdict,) = validate({"pairs": (dataset(samples), source)}, settings, tmp_path / "pages")
        return verdict

    return run


def test_a_good_dataset_passes_whole(check: Check) -> None:
    verdict = check(good(20))
    assert verdict.passed
    assert verdict.set_aside == []


def test_too_few_samples_stop(check: Check) -> None:
    verdict = check(good(15))
    assert verdict.problems == [
        "min_samples: there are at least 16 samples; observed 15 samples. "
        "Way out: add samples to its source, or lower validate.min_samples"
    ]


def test_texts_of_another_origin_stop(check: Check) -> None:
    (problem,) = check([*good(19), *good(1, first=19, origin="web")]).problems
    assert problem.startswith(
        "origin: the texts are of origin 'human', as params.yaml says; observed 1 of 20 samples"
    )
    assert "key-00019 (origin web)" in problem
    assert "ingest.datasets.pairs.origin" in problem


def test_a_table_that_lost_rows_stops(
    check: Check, dataset: Callable[..., PairsDataset], tmp_path: Path
) -> None:
    found = dataset(good(20))
    table = pq.read_table(found.path / "metadata.parquet")
    pq.write_table(table.slice(0, 18), found.path / "metadata.parquet")
    (verdict,) = validate({"pairs": (found, HUMAN)}, THRESHOLDS, tmp_path / "pages")
    assert [problem.split(":")[0] for problem in verdict.problems] == ["manifest_count"]


def test_keys_that_are_missing_or_twice_stop(dataset: Callable[..., PairsDataset], tmp_path: Path) -> None:
    found = dataset(good(20))
    table = pq.read_table(found.path / "metadata.parquet")
    keys = [None, "twice", "twice", *table["key"].to_pylist()[3:]]
    pq.write_table(table.set_column(0, table.schema.field("key"), [keys]), found.path / "metadata.parquet")
    (verdict,) = validate({"pairs": (found, HUMAN)}, THRESHOLDS, tmp_path / "pages")
    assert [problem.split(":")[0] for problem in verdict.problems] == ["key_present", "key_unique"]


def test_odd_pictures_and_captions_are_set_aside(check: Check) -> None:
    narrow = replace(captioned(50, "a sliver"), media=encoded(draw(50, 200, 40)), width=200, height=40)
    tiny = replace(captioned(51, "a dot"), media=encoded(draw(51, 20, 20)), width=20, height=20)
    odd = [
        narrow,
        tiny,
        captioned(52, "word " * 31),
        captioned(53, '"!!!"'),
        captioned(54, "собака на траве"),
    ]
    verdict = check([*good(40), *odd])
    assert verdict.passed
    assert verdict.set_aside == [
        ("key-00051", "min_side"),
        ("key-00050", "max_aspect_ratio"),
        ("key-00053", "caption_words_min"),
        ("key-00052", "caption_words_max"),
        ("key-00054", "max_non_ascii_share"),
        ("key-00053", "min_letter_share"),
    ]


def test_captions_of_numbers_or_with_characters_that_show_nothing_are_set_aside(check: Check) -> None:
    odd = [
        captioned(50, "IMG_20150620_142630.jpg"),
        captioned(51, "2015-06-20 14:26"),
        captioned(52, "a dog\x00 on grass"),
        captioned(53, "a dog \u202eno grass"),
        captioned(54, "a dog \ufffd on grass"),
        captioned(55, "a\tdog\non grass"),
        captioned(56, "a do\x1bg", "a dog"),
    ]
    verdict = check([*good(20), *odd], max_excluded_share=1.0)
    assert verdict.set_aside == [
        ("key-00051", "min_letter_share"),
        ("key-00052", "max_control_characters"),
        ("key-00053", "max_control_characters"),
        ("key-00054", "max_control_characters"),
    ]
    strict = check([*good(20), *odd], min_letter_share=0.5, max_control_characters=1)
    assert strict.set_aside == [("key-00050", "min_letter_share"), ("key-00051", "min_letter_share")]


def test_pictures_that_look_alike_are_reported_and_left_out_when_the_settings_say_so(check: Check) -> None:
    copies = [
        replace(captioned(50, "again"), media=encoded(draw(0), "jpg", quality=80), extension="jpg"),
        replace(captioned(51, "same file"), media=sample(0).media),
    ]
    strict = {"max_near_duplicate_share": 0.0, "max_duplicate_share": 1.0}
    reported = check([*good(20), *copies], **strict)
    (finding,) = (f for f in reported.findings if f.rule.name == "max_near_duplicate_share")
    assert finding.observed == "1 of 22 samples break it: key-00050 (looks like key-00000)"
    assert (finding.passed, reported.passed) == (False, True)
    assert reported.set_aside == [("key-00051", "max_duplicate_share")]
    left_out = check([*good(20), *copies], **strict, near_duplicates="set_aside")
    assert left_out.set_aside[1] == ("key-00050", "max_near_duplicate_share")
    unasked = check(good(20), max_near_duplicate_share=None)
    assert "max_near_duplicate_share" not in {finding.rule.name for finding in unasked.findings}


def test_a_share_of_what_ingest_refused_stops(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "pairs", samples_per_shard=32, parents=[], parameters={}) as writer:
        for entry in good(95):
            writer.add(entry)
        for number in range(5):
            writer.quarantine(f"bad-{number}", "truncated" if number else "empty", "cut")
        for number in range(50):
            writer.quarantine(f"near-{number}", "near_duplicate", "looks like test/a")
    found = PairsDataset.open(tmp_path / "pairs")

    def problems(share: float) -> list[str]:
        settings = THRESHOLDS.model_copy(update={"max_bad_share": share})
        return validate({"pairs": (found, HUMAN)}, settings, tmp_path / "pages")[0].problems

    assert problems(0.04) == []
    (problem,) = problems(0.03)
    assert problem.startswith(
        "max_bad_share: at most 3% of the samples of the source were refused at ingest; "
        "observed 5 of 150 samples refused (4 truncated, 1 empty)"
    )
    assert len(problems(0.0)) == 1


def test_refused_texts_are_judged_among_texts_as_at_ingest(tmp_path: Path) -> None:
    asked = tuple(Question(f"what is {number}?", {"red": 1.0}, open=True) for number in range(5))
    with PairsWriter(tmp_path / "pairs", samples_per_shard=32, parents=[], parameters={}) as writer:
        for number in range(19):
            writer.add(sample(number, captions=(), questions=asked))
        for _ in range(4):
            writer.quarantine("key-00003", "no_answer", "line 7")
        writer.quarantine("key-00004", "broken_text", "the text is not valid UTF-8")
        writer.quarantine("00001", "truncated_archive", "which ingest was told to allow")
    found = PairsDataset.open(tmp_path / "pairs")

    def problems(share: float) -> list[str]:
        settings = THRESHOLDS.model_copy(update={"max_bad_share": share})
        return validate({"pairs": (found, VQA)}, settings, tmp_path / "pages")[0].problems

    assert problems(0.05) == []
    (problem,) = problems(0.04)
    assert problem.startswith(
        "max_bad_share_of_texts: at most 4% of the texts of the source were refused at ingest; "
        "observed 5 of 100 texts refused (4 no_answer, 1 broken_text)"
    )


def test_dead_links_are_not_the_fault_of_a_list_and_malformed_rows_are(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "pairs", samples_per_shard=32, parents=[], parameters={}) as writer:
        for entry in good(40, origin="web"):
            writer.add(entry)
        for number in range(30):
            writer.quarantine(f"dead-{number}", "http_404", "gone")
        for number, reason in enumerate(("broken_row", "no_url", "no_caption")):
            writer.quarantine(f"bad-{number}", reason, "cut")
    found = PairsDataset.open(tmp_path / "pairs")
    links = Source(source="list", kind="urls", origin="web", role="train")

    def problems(share: float) -> list[str]:
        settings = THRESHOLDS.model_copy(update={"max_bad_share": share})
        return validate({"pairs": (found, links)}, settings, tmp_path / "pages")[0].problems

    assert problems(3 / 73) == []
    (problem,) = problems(0.04)
    assert "observed 3 of 73 samples refused (1 broken_row, 1 no_caption, 1 no_url)" in problem


def test_samples_that_lack_a_fact_stop_or_are_set_aside(
    dataset: Callable[..., PairsDataset], tmp_path: Path
) -> None:
    found = dataset(good(20))
    path = found.path / "metadata.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0] |= {"phash": None, "bytes": None}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    (verdict,) = validate({"pairs": (found, HUMAN)}, THRESHOLDS, tmp_path / "pages")
    (problem,) = verdict.problems
    assert problem.startswith(
        "max_missing_share: at most 0% of the samples lack a size, digest, hash or origin;"
    )
    assert "observed 1 of 20 samples break it: key-00000 (missing_facts 2)" in problem
    settings = THRESHOLDS.model_copy(update={"max_missing_share": 0.1})
    (verdict,) = validate({"pairs": (found, HUMAN)}, settings, tmp_path / "pages")
    assert (verdict.problems, verdict.set_aside) == ([], [("key-00000", "max_missing_share")])


def test_the_origin_of_every_caption_counts(check: Check) -> None:
    mixed = sample(50, captions=(Caption("a dog", "human"), Caption("a dog", "synthetic")))
    (problem,) = check([*good(20), mixed]).problems
    assert "key-00050 (origin synthetic)" in problem


def test_the_facts_hold_no_text(dataset: Callable[..., PairsDataset]) -> None:
    found = facts(dataset([captioned(n, f"{n} " + "long caption " * 500) for n in range(40)]))
    assert found.frame.memory_usage(index=False, deep=True).drop("origin").sum() / 40 < 80


def test_one_usable_caption_saves_a_sample(check: Check) -> None:
    verdict = check([*good(20), captioned(50, "word " * 31, "собака", "a dog")])
    assert verdict.set_aside == []


def test_boilerplate_is_set_aside_on_the_web_only(check: Check) -> None:
    repeated = [captioned(70 + n, "Add to cart", origin="web") for n in range(11)]
    assert check([*good(60, origin="web"), *repeated], WEB).excluded == 11
    assert check([*good(60, origin="web"), *repeated[:10]], WEB).excluded == 0
    assert check([*good(60), *[captioned(70 + n, "cat") for n in range(11)]]).excluded == 0


def test_boilerplate_beside_a_caption_of_its_own_loses_no_sample(check: Check) -> None:
    def beside(*texts: str) -> list[Sample]:
        found = [
            captioned(70 + n, *[text.format(f"the {n}th dog") for text in texts], origin="web")
            for n in range(12)
        ]
        return [*good(60, origin="web"), *found]

    assert check(beside("click here to enlarge", "{}"), WEB).excluded == 0
    assert check(beside("{}", "click here to enlarge"), WEB).excluded == 0
    twice = check(beside("click here to enlarge", "buy cheap wallpapers here"), WEB)
    assert (twice.excluded, {rule for _, rule in twice.set_aside}) == (12, {"max_caption_repeats"})
    once_each = [captioned(70 + n, *["Add to cart"] * 3, origin="web") for n in range(10)]
    assert check([*good(60, origin="web"), *once_each], WEB).excluded == 0


def test_captions_that_are_cut_are_counted_and_those_that_become_equal_by_it(check: Check) -> None:
    opening = "word " * 30
    long = [captioned(70 + n, f"{opening} and {n}", origin="web") for n in range(12)]
    verdict = check([*good(60, origin="web"), *long], WEB, caption_words=(1, 200))
    assert (verdict.cut, verdict.alike) == (12, 11)
    (finding,) = [found for found in verdict.findings if found.rule.name == "max_caption_repeats"]
    assert finding.rule.demand == "at most 10 samples have captions with the same first 30 words"
    assert verdict.excluded == 12
    assert (check(good(20)).cut, check(good(20)).alike) == (0, 0)


def test_copies_of_a_file_are_set_aside_and_many_of_them_stop(check: Check) -> None:
    copies = [replace(captioned(50 + n, "again"), media=sample(0).media) for n in range(2)]
    verdict = check([*good(50), *copies])
    assert verdict.passed
    assert verdict.set_aside == [("key-00050", "max_duplicate_share"), ("key-00051", "max_duplicate_share")]
    (problem,) = check([*good(20), *copies]).problems
    assert problem.startswith(
        "max_duplicate_share: at most 5% of the files came before; observed 2 of 22 samples"
    )


@pytest.mark.parametrize(
    ("media", "extension", "found"),
    [
        (sample(50).media, "png", ("max_duplicate_share", "the same file as key-00050")),
        (encoded(draw(50), "jpg", quality=80), "jpg", ("max_near_duplicate_share", "looks like key-00050")),
    ],
)
def test_of_copies_the_first_is_left_that_no_other_rule_sets_aside(
    check: Check, media: bytes, extension: str, found: tuple[str, str]
) -> None:
    texts = {30: "芝生の上の犬", 50: "a dog on grass", 51: "a dog again", 52: "犬"}
    copies = [captioned(number, text) for number, text in texts.items()]
    copies = [one if "00050" in one.key else replace(one, media=media, extension=extension) for one in copies]
    verdict = check([*good(20), *copies], near_duplicates="set_aside", max_duplicate_share=1.0)
    assert {key for key, _ in verdict.set_aside} == {"key-00030", "key-00051", "key-00052"}
    told = [(finding.rule.name, dict(finding.set_aside).get("key-00051")) for finding in verdict.findings]
    assert found in told


def test_what_a_rule_sets_aside_is_what_great_expectations_finds(
    dataset: Callable[..., PairsDataset], tmp_path: Path
) -> None:
    odd = [
        replace(captioned(50, "a sliver"), media=encoded(draw(50, 200, 40)), width=200, height=40),
        captioned(51, "word " * 31),
        captioned(52, "собака"),
        captioned(53, "a dog\x00 on grass", "2015"),
        sample(54, captions=()),
        *[captioned(60 + n, "Add to cart") for n in range(11)],
    ]
    pairs = dataset(
        [replace(one, captions=tuple(replace(c, origin="web") for c in one.captions)) for one in odd]
    )
    wanted = [rule for rule in rules("pairs", WEB, THRESHOLDS, len(odd), []) if rule.sets_aside]
    found = facts(pairs)
    outcomes, _ = Checks().run(
        "pairs", with_copies(found, set_aside_by(wanted, found.frame), 4).frame, wanted
    )
    by_them = {row for outcome in outcomes for row in outcome.rows.tolist()}
    assert set(np.flatnonzero(set_aside_by(wanted, found.frame)).tolist()) == by_them


def test_a_threshold_below_a_percent_is_said_as_it_is(check: Check) -> None:
    copies = [replace(captioned(50 + n, "again"), media=sample(0).media) for n in range(2)]
    odd = captioned(60, "собака", origin="human")
    bare = sample(61, captions=())
    shares = ("max_duplicate_share", "max_near_duplicate_share", "max_non_ascii_share", "min_letter_share")
    thresholds = dict.fromkeys((*shares, "max_excluded_share"), 0.0025)
    verdict = check([*good(20), *copies, odd, bare], **thresholds)
    demands = {finding.rule.name: finding.rule.demand for finding in verdict.findings}
    for name in (*shares, "has_captions"):
        assert " 0.25% of the " in demands[name], name
    assert verdict.problems[-1].startswith("max_excluded_share: at most 0.25% of the samples are set aside;")


def test_a_pair_is_a_copy_where_both_of_its_pictures_are(check: Check) -> None:
    pictures = [encoded(draw(n)) for n in range(3)]
    sides = {50: (0, 1), 51: (0, 2), 52: (1, 0), 53: (0, 1), 54: (0, 0)}
    pairs = [
        replace(captioned(n), media=pictures[left], partner=pictures[right], partner_extension="png")
        for n, (left, right) in sides.items()
    ]
    repainted = encoded(draw(0), "jpg", quality=80)
    pairs += [
        replace(pairs[0], key=f"alike-{n}", media=repainted, extension="jpg", partner=pictures[n])
        for n in (1, 2)
    ]
    settings = {"max_duplicate_share": 1.0, "near_duplicates": "set_aside", "max_excluded_share": 1.0}
    verdict = check([*good(20, first=60), *pairs], VQA, **settings)
    found = [(key, rule) for key, rule in verdict.set_aside if "duplicate" in rule]
    assert found == [
        ("key-00053", "max_duplicate_share"),
        ("alike-1", "max_near_duplicate_share"),
        ("alike-2", "max_near_duplicate_share"),
    ]


def test_samples_without_captions_stop_when_they_are_many(check: Check) -> None:
    bare = [sample(50 + n, captions=()) for n in range(8)]
    assert check([*good(20), *bare[:6]]).excluded == 6
    problems = check([*good(16), *bare]).problems
    assert [problem.split(":")[0] for problem in problems] == ["has_captions", "max_excluded_share"]


def test_questions_are_expected_of_vqa_instead_of_captions(check: Check) -> None:
    asked = (Question("what shape?", {"circle": 1.0}, True),)
    samples = [sample(n, captions=(), questions=asked) for n in range(20)]
    assert check(samples, VQA).set_aside == []
    without = sample(30, captions=())
    assert check([*samples, without], VQA).set_aside == [("key-00030", "has_questions")]


@pytest.mark.parametrize("kind", ["vqav2", "nlvr2"])
def test_a_source_of_any_kind_may_have_questions_only(check: Check, kind: str) -> None:
    asked = (Question("both are red", {"true": 1.0}, False),)
    samples = [sample(n, captions=(), questions=asked) for n in range(20)]
    source = Source(source="asked", kind=kind, origin="human", role="train")  # pyright: ignore[reportArgumentType]
    verdict = check(samples, source)
    assert (verdict.problems, verdict.set_aside) == ([], [])
    verdict = check([*samples, sample(30, captions=())], source)
    assert verdict.set_aside == [("key-00030", "has_questions")]


def test_too_much_set_aside_stops_with_the_reasons(check: Check) -> None:
    long = [captioned(50 + n, "word " * 40) for n in range(10)]
    (problem,) = check([*good(20), *long]).problems
    assert "observed 10 of 30 (caption_words_max 10)" in problem


def test_a_picture_of_the_test_set_in_training_stops(
    dataset: Callable[..., PairsDataset], tmp_path: Path
) -> None:
    training = dataset(good(20), "training")
    test = dataset([*good(19, first=100), replace(captioned(200, "same"), media=sample(3).media)], "test")
    verdicts = validate({"training": (training, HUMAN), "test": (test, TEST)}, THRESHOLDS, tmp_path / "pages")
    assert [verdict.passed for verdict in verdicts] == [False, True]
    assert "key-00003" in verdicts[0].problems[0]


def test_the_gate_is_written_when_all_pass_and_read_by_the_stages(check: Check, tmp_path: Path) -> None:
    verdict = check([*good(40), captioned(52, "word " * 31)])
    write_validated(tmp_path / "validated", [verdict])
    assert excluded_keys(tmp_path / "validated", "pairs") == {"key-00052"}
    assert pq.read_table(tmp_path / "validated/pairs.parquet").to_pylist() == [
        {"key": "key-00052", "expectation": "caption_words_max", "detail": "shortest_caption 31"}
    ]
    gate = json.loads((tmp_path / "validated/gate.json").read_text())
    assert gate["passed"] is True
    assert gate["datasets"]["pairs"] == {
        "passed": True,
        "manifest": verdict.digest,
        "samples": 41,
        "set_aside": 1,
        "by_expectation": {"caption_words_max": 1},
    }


def test_the_gate_stays_shut_when_one_does_not_pass(check: Check, tmp_path: Path) -> None:
    passes, fails = check(good(20)), check(good(3))
    with pytest.raises(BlipError, match="dataset pairs does not pass validation, 1 reason"):
        write_validated(tmp_path / "validated", [passes, fails])
    with pytest.raises(
        BlipError, match=r"pairs did not pass validation; mend it and run `blip stage validate`"
    ):
        excluded_keys(tmp_path / "validated", "pairs")


def test_a_dataset_that_was_made_anew_has_to_pass_again(check: Check, tmp_path: Path) -> None:
    write_validated(tmp_path / "validated", [check(good(20))])
    assert excluded_keys(tmp_path / "validated", "pairs") == frozenset()
    assert excluded_keys(tmp_path / "validated", "bootstrapped") == frozenset()
    again = check(good(21))
    with pytest.raises(BlipError, match=r"pairs is not what passed validation.* run `blip stage validate`"):
        excluded_keys(tmp_path / "validated", "pairs")
    write_validated(tmp_path / "validated", [again])
    assert excluded_keys(tmp_path / "validated", "pairs") == frozenset()


def test_pages_need_no_network_and_no_script_and_show_what_was_found(check: Check, tmp_path: Path) -> None:
    samples = [*good(40), captioned(52, "<script>alert(1)</script> " * 31), captioned(53, '"!!!"')]
    check(samples)
    first = {page.name: page.read_text() for page in (tmp_path / "pages").iterdir()}
    assert sorted(first) == ["index.html", "pairs.html"]
    assert '<a href="pairs.html">pairs</a>' in first["index.html"]
    page = first["pairs.html"]
    assert "<td>key-00053</td><td>longest_caption 0</td><td>&#34;!!!&#34;</td>" in page
    assert "&lt;script&gt;" in page
    for forbidden in ("<script", "http://", "https://", str(tmp_path)):
        assert forbidden not in page, forbidden
    assert not re.search(r"\d{8}T\d{6}|\d{4}-\d\d-\d\d", page), "a time of day"
    check(samples)
    assert {page.name: page.read_text() for page in (tmp_path / "pages").iterdir()} == first

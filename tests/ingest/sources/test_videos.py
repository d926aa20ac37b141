"""MSR-VTT and MSVD with their questions, in the exact form of the published files."""

import json
from pathlib import Path

import pytest

from blip.data.sample import Question
from blip.errors import BlipError
from blip.ingest.sources.guess import kind_of

from .reading import details, items, reasons, samples, texts, write


def video(number: int, split: str) -> dict:
    return {
        "category": 9,
        "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
        "video_id": f"video{number}",
        "start time": 137.72,
        "end time": 149.44,
        "split": split,
        "id": number,
    }


@pytest.fixture
def msrvtt(tmp_path: Path) -> Path:
    value = {
        "info": {"contributor": "Microsoft MSM group", "version": "1.0"},
        "videos": [video(0, "train"), video(1, "validate"), video(2, "train")],
        "sentences": [
            {"caption": f"caption {n} of video{v}", "video_id": f"video{v}", "sen_id": n}
            for n, v in enumerate((0, 2, 1, 0))
        ],
    }
    write(tmp_path / "train_val_videodatainfo.json", json.dumps(value))
    for number in range(3):
        write(tmp_path / f"TrainValVideo/video{number}.mp4", f"{number}")
    return tmp_path


def test_captions_and_videos_are_joined_by_split(msrvtt: Path) -> None:
    found = samples(items(msrvtt, "msrvtt", "human", split="train"))
    assert list(found) == ["video0", "video2"]
    assert texts(found["video0"]) == [("caption 0 of video0", "human"), ("caption 3 of video0", "human")]
    assert (found["video2"].media, found["video2"].is_video) == (b"2\n", True)
    assert len(samples(items(msrvtt, "msrvtt", split="all"))) == 3
    with pytest.raises(BlipError, match=r"name a split; it has train \(2\), validate \(1\)"):
        items(msrvtt, "msrvtt")


def test_the_1k_a_lists_are_read(msrvtt: Path) -> None:
    write(
        msrvtt / "MSRVTT_JSFUSION_test.csv",
        "key,vid_key,video_id,sentence",
        "ret0,msr1,video1,a person is connecting something to system",
        "ret1,msr9,video9,gone",
    )
    found = items(msrvtt / "MSRVTT_JSFUSION_test.csv", "msrvtt")
    assert texts(samples(found)["video1"]) == [("a person is connecting something to system", "web")]
    assert reasons(found) == {"video9": "missing_file"}
    write(msrvtt / "MSRVTT_train.9k.csv", "video_id", "video2", "video0")
    train = samples(items(msrvtt / "MSRVTT_train.9k.csv", "msrvtt"))
    assert {key: len(sample.captions) for key, sample in train.items()} == {"video2": 1, "video0": 2}


def test_blips_own_list_of_the_1k_a_test_is_a_table(msrvtt: Path) -> None:
    row = {
        "clip_name": "video1",
        "retrieval_key": "ret0",
        "caption": "a person is connecting something to system",
    }
    write(msrvtt / "msrvtt_test.jsonl", json.dumps(row))
    assert kind_of(msrvtt / "msrvtt_test.jsonl") == "table"
    found = samples(items(msrvtt / "msrvtt_test.jsonl", "table"))
    assert texts(found["video1"]) == [("a person is connecting something to system", "web")]
    assert found["video1"].is_video


def test_msrvtt_qa_is_gathered_by_clip(msrvtt: Path) -> None:
    rows = [
        {
            "answer": "couch",
            "category_id": 14,
            "id": 0,
            "question": "what are three people sitting on?",
            "video_id": 0,
        },
        {"answer": "dog", "category_id": 9, "id": 1, "question": "what runs?", "video_id": 2},
        {"answer": "man", "category_id": 14, "id": 2, "question": "who talks?", "video_id": 0},
        {"answer": "man", "category_id": 14, "id": 3, "question": "who talks?"},
    ]
    write(msrvtt / "train_qa.json", json.dumps(rows))
    found = items(msrvtt / "train_qa.json", "msrvtt")
    assert samples(found)["video0"].questions == (
        Question("what are three people sitting on?", {"couch": 1.0}, open=True),
        Question("who talks?", {"man": 1.0}, open=True),
    )
    assert details(found) == [("broken_entry", "train_qa.json, entry 3: no 'video_id'")]


CLIP = "-4wsuPCjDBc_5_15"


def test_msvds_descriptions_are_gathered_by_clip(tmp_path: Path) -> None:
    write(
        tmp_path / "AllVideoDescriptions.txt",
        "# a comment",
        "",
        f"{CLIP} a squirrel is eating a peanut in it's shell",
        "mv89psg6zh4_33_46 a bird in a sink",
        f"{CLIP} a chipmunk  is eating",
        "no clip here",
        "mv89psg6zh4_33_46",
    )
    write(tmp_path / f"YouTubeClips/{CLIP}.avi", "C")
    found = items(tmp_path, "msvd", "human")
    (clip,) = samples(found).values()
    assert (clip.extension, clip.is_video) == ("avi", True)
    assert texts(clip) == [
        ("a squirrel is eating a peanut in it's shell", "human"),
        ("a chipmunk is eating", "human"),
    ]
    assert details(found) == [
        ("broken_row", "AllVideoDescriptions.txt, line 6: not VIDEO_START_END and a description"),
        ("broken_row", "AllVideoDescriptions.txt, line 7: not VIDEO_START_END and a description"),
        ("missing_file", f"mv89psg6zh4_33_46 is listed, its file is not in {tmp_path}"),
    ]


def test_msvd_qa_finds_clips_by_the_mapping(tmp_path: Path) -> None:
    rows = [{"answer": "chew", "id": 0, "question": "what does a squirrel do?", "video_id": 1}]
    write(tmp_path / "train_qa.json", json.dumps(rows))
    write(tmp_path / f"YouTubeClips/{CLIP}.avi", "C")
    assert reasons(items(tmp_path / "train_qa.json", "msvd")) == {"vid1": "missing_file"}
    write(tmp_path / "youtube_mapping.txt", f"{CLIP} vid1", "mv89psg6zh4_33_46 vid2")
    (clip,) = samples(items(tmp_path / "train_qa.json", "msvd")).values()
    assert (clip.key, clip.questions) == (
        CLIP,
        (Question("what does a squirrel do?", {"chew": 1.0}, open=True),),
    )

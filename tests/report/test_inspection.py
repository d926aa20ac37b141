"""The pictures of `blip inspect --png`: which are drawn, and what stands in them."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFile

from blip.data.pairs import Caption, PairsWriter, Sample
from blip.inspection.contents import inspect_dataset
from blip.report.inspection import near_duplicates_sheet, quarantine_sheet, write_pictures

COLOURS = {"red": (220, 30, 30), "green": (20, 160, 60), "blue": (30, 30, 220)}


def picture(colour: str, side: int = 48, extension: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), COLOURS[colour]).save(buffer, extension)
    return buffer.getvalue()


def write(
    directory: Path, samples: dict[str, bytes], refused: list[tuple[str, str, str, bytes | None]]
) -> Path:
    with PairsWriter(directory, samples_per_shard=4, parents=[], parameters={}) as writer:
        for key, media in samples.items():
            writer.add(Sample(key, media, "png", (Caption(f"a picture of {key}", "web"),)))
        for entry in refused:
            writer.quarantine(*entry)
    return directory


def share(page: Image.Image | None, colour: str) -> int:
    """How many boxes' worth of a colour a page shows."""
    assert page is not None
    return round(int((np.asarray(page) == COLOURS[colour]).all(2).sum()) / 220**2)


def test_a_sound_dataset_gives_a_contact_sheet_and_histograms(tmp_path: Path) -> None:
    samples = {f"key-{n}": picture("red", 40 + n) for n in range(8)} | {"blue": picture("blue")}
    drawn = write_pictures(inspect_dataset(write(tmp_path / "d", samples, [])), tmp_path / "seen")
    assert [path.name for path in drawn] == ["contact_sheet.png", "histograms.png"]
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == [path.name for path in drawn]
    with Image.open(drawn[0]) as page:
        assert (share(page, "red"), share(page, "blue")) == (8, 1)
    with Image.open(drawn[1]) as page:
        assert page.format == "PNG"
        assert page.width > 1000


def test_drawing_again_gives_the_same_and_takes_away_what_is_no_more(tmp_path: Path) -> None:
    samples = {f"key-{n}": picture("red", 40 + n) for n in range(30)}
    seen = inspect_dataset(write(tmp_path / "d", samples, []))
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen/near_duplicates.png").write_bytes(b"of an earlier time")
    first = {path.name: path.read_bytes() for path in write_pictures(seen, tmp_path / "seen")}
    assert not (tmp_path / "seen/near_duplicates.png").exists()
    assert {path.name: path.read_bytes() for path in write_pictures(seen, tmp_path / "seen")} == first


def test_refused_pictures_are_shown_where_they_can_be_decoded(tmp_path: Path) -> None:
    cut = picture("green", 400, "JPEG")
    refused = [
        ("large", "too_large", "48 x 48 pixels", picture("red")),
        ("page", "not_an_image", "6 bytes", b"<html>"),
        ("gone", "missing_file", "listed only", None),
        ("cut", "truncated", "half of it", cut[: len(cut) // 2]),
    ]
    page = quarantine_sheet(inspect_dataset(write(tmp_path / "d", {"key": picture("blue")}, refused)))
    assert (share(page, "red"), share(page, "blue")) == (1, 0)
    assert page is not None
    green = np.abs(np.asarray(page).astype(int) - COLOURS["green"]).max(2) < 12
    assert 0.2 < green.sum() / 220**2 < 0.8
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_refused_pictures_whose_bytes_are_gone_are_boxes_without_a_picture(tmp_path: Path) -> None:
    refused = [("large", "too_large", "48 x 48 pixels", picture("red"))]
    directory = write(tmp_path / "d", {"key": picture("blue")}, refused)
    (directory / "quarantine/00000.tar").unlink()
    assert share(quarantine_sheet(inspect_dataset(directory)), "red") == 0


def test_what_validation_set_aside_is_shown_from_its_shard(tmp_path: Path) -> None:
    write(tmp_path / "d", {"good": picture("red"), "odd": picture("blue")}, [])
    (tmp_path / "validated").mkdir()
    rows = pa.table({"key": ["odd"], "expectation": ["min_side"], "detail": ["short_side 20"]})
    pq.write_table(rows, tmp_path / "validated/d.parquet")
    page = quarantine_sheet(inspect_dataset(tmp_path / "d"))
    assert (share(page, "red"), share(page, "blue")) == (0, 1)


def test_a_picture_of_which_a_text_was_left_out_is_shown_as_it_is_in_the_dataset(tmp_path: Path) -> None:
    refused: list[tuple[str, str, str, bytes | None]] = [
        ("kept", "empty_caption", "a text without words", b""),
        ("kept", "control_characters", "the text has the control character U+0007", b"bell\x07"),
        ("gone", "control_characters", "the text has the control character U+0007", picture("green")),
        ("kept", "duplicate", "another sample has the key kept", picture("red")),
    ]
    seen = inspect_dataset(write(tmp_path / "d", {"kept": picture("blue")}, refused))
    assert [(group.reason, group.texts) for group in seen.left_out] == [
        ("control_characters", False),
        ("duplicate", False),
        ("control_characters", True),
        ("empty_caption", True),
    ]
    page = quarantine_sheet(seen)
    assert {colour: share(page, colour) for colour in COLOURS} == {"red": 1, "green": 1, "blue": 2}


def test_near_duplicates_stand_beside_the_evaluation_picture(tmp_path: Path) -> None:
    write(tmp_path / "test", {"shown": picture("blue"), "other": picture("green")}, [])
    near = [("copy", "near_duplicate", "looks like test/shown", picture("red"))]
    page = near_duplicates_sheet(inspect_dataset(write(tmp_path / "train", {"key": picture("green")}, near)))
    assert {colour: share(page, colour) for colour in COLOURS} == {"red": 1, "green": 0, "blue": 1}


def test_a_near_duplicate_of_a_dataset_that_is_gone_is_shown_alone(tmp_path: Path) -> None:
    near = [("copy", "near_duplicate", "looks like elsewhere/shown", picture("red"))]
    page = near_duplicates_sheet(inspect_dataset(write(tmp_path / "train", {"key": picture("green")}, near)))
    assert share(page, "red") == 1


def test_a_dataset_of_like_samples_needs_no_histogram(tmp_path: Path) -> None:
    drawn = write_pictures(
        inspect_dataset(write(tmp_path / "d", {"key": picture("red")}, [])), tmp_path / "seen"
    )
    assert [path.name for path in drawn] == ["contact_sheet.png"]


def test_nothing_left_out_draws_nothing(tmp_path: Path) -> None:
    seen = inspect_dataset(write(tmp_path / "d", {"key": picture("red")}, []))
    assert quarantine_sheet(seen) is None
    assert near_duplicates_sheet(seen) is None

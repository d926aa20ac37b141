"""What a caption of the web is meant to say, and what the bytes of a picture are."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from blip.data.sample import Sample
from blip.ingest.sources.cells import caption_of, extension_of

from .reading import items, reasons, samples, texts, write, write_tar

HTML = "<p>a <b>red</b>&nbsp;circle &amp; more</p>"
MEANT = "a red circle & more"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (HTML, MEANT),
        ("&lt;p&gt;a cat&lt;/p&gt;", "a cat"),
        ("one<br/>two<br>three", "one two three"),
        ('<a href="http://a.org?x=1">blue</a> <IMG SRC="x.png"/> sky', "blue sky"),
        ("<h1 class='x'>Title</h1>text", "Title text"),
        ("5 &#60; 6, caf&#xe9;", "5 < 6, caf\u00e9"),
        ("a < b", "a < b"),
        ("a<b and b>c", "a<b and b>c"),
        ("I <3 you", "I <3 you"),
        ("AT&T; R&D &notanentity; a & b;", "AT&T; R&D &notanentity; a & b;"),
        ("<unknown> tag <", "<unknown> tag <"),
        ("<p>", ""),
        ("null", ""),
        (" NaN ", ""),
        ("None", ""),
        ("N/A", ""),
        ("none of them", "none of them"),
    ],
)
def test_tags_and_entities_go_and_signs_stay(text: str, meant: str) -> None:
    assert caption_of(text) == meant


@pytest.mark.parametrize(
    ("piece", "meant"), [("<p ", "<p "), ("<", "<"), ("&", "&"), ("<p", "<p"), ("&amp;", "&"), ("</", "</")]
)
def test_a_text_of_what_might_be_tags_is_read_in_one_go(piece: str, meant: str) -> None:
    """An expression that tried every way to read these would not come to an end."""
    assert caption_of(piece * 200_000) == (meant * 200_000).strip()


def test_captions_of_every_kind_of_web_data_are_read_so(tmp_path: Path) -> None:
    write(
        tmp_path / "t/captions.jsonl", json.dumps({"image": "a.png", "caption": [HTML, "null", float("nan")]})
    )
    write(tmp_path / "t/a.png", "A")
    write(tmp_path / "f/a.png", "A")
    write(tmp_path / "f/a.txt", HTML, "N/A")
    (tmp_path / "w").mkdir()
    write_tar(tmp_path / "w/00.tar", {"a.png": b"A", "a.txt": HTML.encode(), "b.png": b"B", "b.txt": b"nan"})
    for name, kind in (("t", "table"), ("f", "folder"), ("w", "webdataset")):
        (sample,) = samples(items(tmp_path / name, kind)).values()
        assert texts(sample) == [(MEANT, "web")], kind
    assert list(reasons(items(tmp_path / "w", "webdataset")).values()) == ["no_caption"]
    rows = [{"url": f"http://a.org/{n}.jpg", "caption": text} for n, text in enumerate((HTML, "None"))]
    write(tmp_path / "u.jsonl", *map(json.dumps, rows))
    first, second = items(tmp_path / "u.jsonl", "urls")
    assert not isinstance(first, Sample) and getattr(first, "caption", "") == MEANT
    assert getattr(second, "reason", "") == "no_caption"


def test_pictures_in_the_container_of_clips_are_no_clips() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "AVIF")
    assert extension_of(buffer.getvalue()) is None
    assert extension_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") is None
    assert extension_of(b"\0\0\0\x18ftypisom\0\0\0\0isomavc1") == "mp4"

"""`blip explain`: what it says and what it draws."""

import json
import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blip.model.explain import Explanation
from blip.serving.heatmaps import draw, panels


def test_explain_draws_a_picture(blip, model: Path, pictures: Path, tmp_path: Path):
    out = tmp_path / "seen.png"

    ended = blip("explain", pictures / "red apple.png", "red apple", "--out", out, "--model", model)

    assert ended.code == 0
    with Image.open(out) as drawn:
        assert drawn.format == "PNG"


def test_explain_says_which_words_it_left_out(blip, model: Path, pictures: Path, tmp_path: Path):
    explain = ("explain", pictures / "red apple.png", "a ☃ dog with " + "apple " * 30, "--model", model)

    ended = blip(*explain, "--out", tmp_path / "seen.png")
    told = json.loads(blip(*explain, "--out", tmp_path / "seen.png", "--json").out)

    assert "left out: ☃ (unknown to the model)\nleft out: apple, apple, " in ended.out
    assert told["words"][:4] == ["a", "dog", "with", "apple"]
    assert (told["unknown"], set(told["cut"])) == (["☃"], {"apple"})
    assert len(told["words"]) + 1 + len(told["cut"]) == 34


def test_explain_does_not_write_a_png_under_another_name(blip, model: Path, pictures: Path, tmp_path: Path):
    out = tmp_path / "seen.jpg"
    ended = blip("explain", pictures / "red apple.png", "apple", "--out", out, "--model", model)
    assert ended.code == 2
    assert f"--out {out}: a PNG is written; give a name that ends in .png" in ended.err


@pytest.mark.parametrize(("size", "shape"), [((800, 40), (1250, 310)), ((40, 800), (320, 980))])
def test_heat_maps_have_the_shape_of_the_picture(tmp_path: Path, size, shape):
    """A wide picture has a line for each panel, a tall one narrow panels: little of the page is white."""
    maps = np.linspace(0, 1, 2 * 32 * 32).reshape(2, 32, 32)
    draw(Image.new("RGB", size, "green"), Explanation(["red", "apple"], maps, 0.5), tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert all(side <= most for side, most in zip(drawn.size, shape, strict=True))
    assert (pixels != 255).any(axis=2).mean() > 0.1


def test_panels_do_not_hold_the_picture_at_its_full_size_each():
    picture, words = Image.new("RGB", (6000, 4000), "green"), ["apple"] * 11
    explanation = Explanation(words, np.ones((len(words), 32, 32)), 0.5)
    tracemalloc.start()
    drawn = panels(picture, explanation)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * picture.width * picture.height * 3
    with Image.open(BytesIO(drawn)) as image:
        assert image.width == 1248


def test_a_word_of_dollars_is_no_formula():
    drawn = panels(Image.new("RGB", (60, 40)), Explanation(["a", "$$", r"$\foo$"], np.ones((3, 4, 4)), 0.5))
    assert drawn.startswith(b"\x89PNG")


def test_a_path_that_cannot_be_written_is_named(blip, model: Path, pictures: Path, tmp_path: Path):
    out = tmp_path / "seen.png"
    out.mkdir()
    result = blip("explain", next(pictures.glob("*.png")), "red apple", "--model", model, "--out", out)
    assert result.code == 1
    assert f"error: {out}: Is a directory" in result.err

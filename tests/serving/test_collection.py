"""Pictures to be searched are the same whether they lie in a folder or in the shards of a dataset."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip.errors import BlipError
from blip.serving.collection import Collection, places_in
from tests import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of different sizes, each with a text beside it."""
    (tmp_path / "pictures/below").mkdir(parents=True)
    for number, name in enumerate(("apple", "below/dog", "table")):
        path = tmp_path / "pictures" / f"{name}.png"
        Image.new("RGB", (40 + number, 30), (80 * number, 9, 200)).save(path)
        path.with_suffix(".txt").write_text(f"a {path.stem}")
    return tmp_path / "pictures"


def test_a_dataset_holds_what_the_folder_holds(blip, folder: Path, tmp_path: Path):
    assert blip("ingest", folder, "--out", tmp_path / "pairs", "--origin", "web").code == 0
    model = tiny.blip()
    of_folder, of_pairs = (Collection.of(path, model, print) for path in (folder, tmp_path / "pairs"))
    assert sorted(place.text for place in of_pairs.places) == ["a apple", "a dog", "a table"]
    assert [place.text for place in of_folder.places] == ["apple.png", "below/dog.png", "table.png"]
    for place, vector in zip(of_folder.places, of_folder.vectors_NP, strict=True):
        ((cosine, found),) = of_pairs.nearest(vector, 1)
        assert cosine == pytest.approx(1, abs=1e-5) and found.text.removeprefix("a ") in place.text
        assert np.array_equal(np.asarray(found.picture()), np.asarray(place.picture()))


def test_embeddings_are_those_of_the_whole_picture(folder: Path):
    model = tiny.blip()
    found = Collection.of(folder, model, print)
    whole = model.embed_images([place.picture() for place in found.places])
    assert torch.equal(found.vectors_NP, whole)


def test_what_cannot_be_used_is_left_out_and_said(folder: Path):
    (folder / "broken.jpg").write_bytes(b"no picture")
    told: list[str] = []
    found = Collection.of(folder, tiny.blip(), told.append)
    assert found.vectors_NP.shape == (3, 32) and found.vectors_NP.dtype == torch.float32
    assert len(told) == 1 and f"{folder / 'broken.jpg'} cannot be used as a picture" in told[0]
    assert len(Collection.of(folder, tiny.blip(), told.append, most=3).places) == 2


def test_a_folder_without_pictures_is_said(tmp_path: Path):
    with pytest.raises(BlipError, match="has no pictures"):
        list(places_in(tmp_path))
    with pytest.raises(BlipError, match="no such folder"):
        list(places_in(tmp_path / "none"))
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(BlipError, match="none of the pictures of"):
        Collection.of(tmp_path, tiny.blip(), lambda why: None)

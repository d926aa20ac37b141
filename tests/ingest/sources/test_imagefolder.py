from pathlib import Path

import pytest

from blip.errors import BlipError
from blip.ingest.sources.refused import key_of

from .reading import items, reasons, samples, texts, write


def test_a_folder_is_the_class_of_its_pictures(tmp_path: Path) -> None:
    for name in ("golden_poppy/0001.jpg", "golden_poppy/deep/2.png", "n01440764/x.JPEG", "top.jpg"):
        write(tmp_path / name, name)
    write(tmp_path / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca")
    found = items(tmp_path, "imagefolder", "human")
    known = {sample.key: (texts(sample), sample.truth) for sample in samples(found).values()}
    assert known == {
        key_of("golden_poppy/0001.jpg"): ([("golden poppy", "human")], {"label": "golden poppy"}),
        key_of("golden_poppy/deep/2.png"): ([("golden poppy", "human")], {"label": "golden poppy"}),
        key_of("n01440764/x.JPEG"): ([("tench", "human")], {"label": "tench"}),
    }
    assert reasons(found) == {"top": "no_class"}


def test_a_split_is_a_folder_above_the_classes(tmp_path: Path) -> None:
    for name in ("train/cat/1.jpg", "val/dog/1.jpg"):
        write(tmp_path / name, name)
    (sample,) = samples(items(tmp_path, "imagefolder", split="val")).values()
    assert sample.truth == {"label": "dog"}
    with pytest.raises(BlipError, match="it has train, val; name one as the split"):
        items(tmp_path, "imagefolder")
    with pytest.raises(BlipError, match="it has no folder test, the split's"):
        items(tmp_path, "imagefolder", split="test")


def test_classes_that_differ_in_a_number_at_the_end_stay_apart(tmp_path: Path) -> None:
    classes = ("A310", "A318", "Audi_S4 Sedan-2007", "Audi_S4 Sedan-2012", "7", "__")
    for name in classes:
        write(tmp_path / name / "1.jpg", name)
    labels = {(sample.truth or {})["label"] for sample in samples(items(tmp_path, "imagefolder")).values()}
    assert labels == {"A310", "A318", "Audi S4 Sedan 2007", "Audi S4 Sedan 2012", "7", "__"}

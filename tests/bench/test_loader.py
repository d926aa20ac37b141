"""The three sides of the loader's measurement make the same pictures, all of them."""

import json
from pathlib import Path
from random import Random

import cv2
import numpy as np
import simplejpeg

from blip.bench import loader
from blip.data.augment import Augmentation
from blip.data.decode import decode


def test_the_pictures_are_the_same_every_time_and_of_a_photographs_size() -> None:
    files = [loader.picture(number) for number in range(6)]
    assert files == [loader.picture(number) for number in range(6)]
    assert len(set(files)) == 6
    assert all(20_000 < len(data) < 30_000 for data in files)
    assert {min(decode(data).shape[:2]) for data in files} == {256}


def test_every_side_makes_every_picture(tmp_path: Path) -> None:
    files = [loader.picture(number) for number in range(12)]
    dataset = loader.write(tmp_path / "dataset", files)
    made = {name: side() for name, side in loader.sides(dataset, files, 4, 32).items()}
    assert made == {"ours": 48, "bare": 48, "webdataset": 48}


def test_the_bare_side_scales_as_ours_does() -> None:
    augmentation = Augmentation(224, (1.0, 1.0), flip=False)
    for data in (loader.picture(0), loader.picture(1)):
        bare = cv2.resize(simplejpeg.decode_jpeg(data), (224, 224), interpolation=cv2.INTER_CUBIC)
        assert np.array_equal(augmentation(data, Random(0)), bare)


def test_the_command_measures_all_three(blip) -> None:
    threads = cv2.getNumThreads()
    result = json.loads(blip("bench", "loader", "--batch", "2", "--repeats", "2", "--json").out)
    assert result["work"] == "loader"
    assert result["images"] == 64
    assert {len(seconds) for seconds in result["seconds"].values()} == {2}
    rates = result["images_per_second_and_core"]
    assert all(rate > 0 for rate in rates.values())
    assert set(result["ratios"]) == {"bare", "webdataset"}
    assert cv2.getNumThreads() == threads


def test_the_table_has_a_row_a_side(blip) -> None:
    shown = blip("bench", "loader", "--batch", "2", "--repeats", "1").out.splitlines()
    assert shown[0].startswith("loader, batch 2, JPEGs of 340 x 256 px and 2")
    assert [line.split("  ")[0] for line in shown[-3:]] == list(loader.SIDES.values())
    assert all(line.endswith("x as fast") for line in shown[-2:])

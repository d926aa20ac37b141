from random import Random

import numpy as np
import pytest

from blip.data.augment import OPERATIONS, crop_box, flip, randaugment, random_resized_crop
from blip.data.images import to_pil

from .conftest import draw


def test_crops_lie_inside_and_cover_the_asked_share() -> None:
    rng = Random(0)
    for _ in range(500):
        left, top, right, bottom = crop_box(60, 90, (0.2, 0.6), rng)
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 60
        assert 0.18 < (right - left) * (bottom - top) / (60 * 90) < 0.63
        assert 0.7 < (right - left) / (bottom - top) < 1.4


def test_a_scale_of_one_is_the_whole_picture() -> None:
    assert crop_box(20, 300, (1.0, 1.0), Random(0)) == (0, 0, 300, 20)


def test_a_long_picture_falls_back_to_its_middle() -> None:
    left, top, right, bottom = crop_box(20, 300, (0.9, 0.99), Random(0))
    assert (left, top, right, bottom) == (136, 0, 163, 20)


def test_a_crop_looks_as_evaluation_scales() -> None:
    image = draw(0, 96, 96)
    ours = random_resized_crop(image, 48, (1.0, 1.0), Random(0))
    theirs = np.asarray(to_pil(image).resize((48, 48)))
    assert ours.shape == (48, 48, 3)
    assert np.abs(ours.astype(int) - theirs).mean() < 1.5


@pytest.mark.parametrize("side", [10, 48, 200])
def test_small_and_large_pictures_come_out_at_the_size(side: int) -> None:
    crop = random_resized_crop(draw(0, side, side), 48, (0.5, 1.0), Random(0))
    assert crop.shape == (48, 48, 3)
    assert crop.dtype == np.uint8


def test_flip_exchanges_left_and_right() -> None:
    image = draw(0)
    assert np.array_equal(flip(image)[:, 0], image[:, -1])


def test_equal_seeds_augment_equally() -> None:
    image = draw(0)
    results = [randaugment(image, Random(seed)) for seed in range(30)]
    again = [randaugment(image, Random(seed)) for seed in range(30)]
    assert all(np.array_equal(one, other) for one, other in zip(results, again, strict=True))
    assert len({result.tobytes() for result in results}) > 5


def test_every_operation_keeps_size_and_type() -> None:
    image = draw(0, 32, 24)
    for operation in OPERATIONS:
        result = operation(image, 0.5, Random(1))
        assert (result.shape, result.dtype) == ((24, 32, 3), np.uint8), operation.__name__


def test_operations_do_what_their_names_say() -> None:
    by_name = {operation.__name__: operation for operation in OPERATIONS}
    dull = (draw(0) // 4 + 90).astype(np.uint8)
    stretched = by_name["_autocontrast"](dull, 0.5, Random(0))
    assert stretched.min() == 0
    assert stretched.max() >= 254
    assert by_name["_brightness"](dull, 1.0, Random(0)).mean() > 1.8 * dull.mean()
    assert np.array_equal(by_name["_brightness"](dull, 0.5, Random(0)), dull)
    assert np.array_equal(by_name["_sharpness"](dull, 0.5, Random(0)), dull)
    assert np.array_equal(by_name["_identity"](dull, 0.5, Random(0)), dull)
    rotated = by_name["_rotate"](dull, 0.5, Random(0))
    assert rotated[0, 0].tolist() == [128, 128, 128]


def test_the_input_is_left_as_it_was() -> None:
    image = draw(0)
    before = image.copy()
    for seed in range(20):
        randaugment(image, Random(seed))
    assert np.array_equal(image, before)

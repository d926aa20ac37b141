import math
from random import Random

import numpy as np
import pytest
from PIL import Image

from blip.data.augment import (
    Augmentation,
    crop_box,
    reduced,
    reduction,
)
from blip.data.decode import decode

from .conftest import draw, encoded


def torchvision_box(height: int, width: int, scale: tuple[float, float], rng: Random) -> tuple[int, ...]:
    """RandomResizedCrop.get_params as its documentation describes it, with the same generator."""
    ratio = (3 / 4, 4 / 3)
    for _ in range(10):
        target = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = rng.randint(0, width - w)
            top = rng.randint(0, height - h)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@pytest.mark.parametrize("size", [(60, 90), (256, 340), (300, 20), (20, 300), (7, 5), (1, 1)])
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.5, 1.0), (0.9, 0.99)])
def test_crops_are_torchvisions(size: tuple[int, int], scale: tuple[float, float]) -> None:
    ours, theirs = Random(3), Random(3)
    for _ in range(200):
        assert crop_box(*size, scale, ours) == torchvision_box(*size, scale, theirs)


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
    ours = Augmentation(48, (1.0, 1.0), flip=False)(image, Random(0))
    theirs = np.asarray(Image.fromarray(image).resize((48, 48)))
    assert ours.shape == (48, 48, 3)
    assert np.abs(ours.astype(int) - theirs).mean() < 1.5


@pytest.mark.parametrize("side", [10, 48, 200])
def test_small_and_large_pictures_come_out_at_the_size(side: int) -> None:
    crop = Augmentation(48, (0.5, 1.0))(draw(0, side, side), Random(0))
    assert crop.shape == (48, 48, 3)
    assert crop.dtype == np.uint8


def test_half_of_the_pictures_are_flipped() -> None:
    image = draw(0, 48, 48)
    augmentation = Augmentation(48, (1.0, 1.0))
    results = [augmentation(image, Random(seed)) for seed in range(400)]
    flipped = sum(np.array_equal(result, image[:, ::-1]) for result in results)
    assert sum(np.array_equal(result, image) for result in results) == 400 - flipped
    assert 160 < flipped < 240


@pytest.mark.parametrize("side", [100, 130, 224, 340])
def test_the_scaling_is_near_pillows_antialiased_bicubic(side: int) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((side * 4 // 3, side), Image.Resampling.BICUBIC))
    ours = Augmentation(96, (1.0, 1.0), flip=False)(image, Random(0)).astype(int)
    theirs = np.asarray(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC))
    assert np.abs(ours - theirs).mean() < 2.5


def test_the_result_is_written_where_it_is_wanted() -> None:
    image, augmentation = draw(0, 96, 90), Augmentation(48, (0.2, 1.0), randaugment=True)
    for seed in range(30):
        batch = np.zeros((3, 48, 48, 3), np.uint8)
        result = augmentation(image, Random(seed), batch[1])
        assert np.array_equal(batch[1], augmentation(image, Random(seed)))
        assert np.shares_memory(result, batch)
        assert not batch[0].any() and not batch[2].any()


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
def test_a_file_and_its_pixels_give_the_same(kind: str) -> None:
    data = encoded(draw(1, 95, 90), kind)
    augmentation = Augmentation(48, (0.2, 1.0), randaugment=True)
    assert not augmentation.reduces(data)
    for seed in range(20):
        assert np.array_equal(augmentation(data, Random(seed)), augmentation(decode(data), Random(seed)))


def test_of_a_large_jpeg_only_what_the_crop_needs_is_decoded() -> None:
    data = encoded(draw(1, 640, 480), "jpg", quality=95)
    augmentation = Augmentation(48, (0.2, 1.0), flip=False)
    assert augmentation.reduces(data)
    assert not augmentation.reduces(encoded(draw(1, 640, 480), "webp"))
    pixels, apart = decode(data), []
    for seed in range(30):
        small, whole = augmentation(data, Random(seed)), augmentation(pixels, Random(seed))
        apart.append(np.abs(small.astype(int) - whole).mean())
    assert np.mean(apart) < 2
    assert max(apart) < 6, "the crop begins and ends at whole pixels of the smaller picture"


@pytest.mark.parametrize("size", [48, 224])
def test_a_reduced_crop_has_at_least_the_pixels_of_the_result(size: int) -> None:
    rng, divisors = Random(0), set()
    for _ in range(2000):
        height, width = rng.randint(2 * size, 10 * size), rng.randint(2 * size, 10 * size)
        box = crop_box(height, width, (0.2, 1.0), rng)
        divisor = reduction(box, size)
        divisors.add(divisor)
        left, top, right, bottom = reduced(box, divisor)
        assert 0 <= left < right <= -(-width // divisor)
        assert 0 <= top < bottom <= -(-height // divisor)
        if divisor > 1:
            assert min(right - left, bottom - top) >= size
        assert divisor == 8 or min(box[2] - box[0], box[3] - box[1]) < 2 * divisor * size
    assert divisors == {1, 2, 4, 8}

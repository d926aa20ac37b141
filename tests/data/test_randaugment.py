"""RandAugment beside its published definition: the formulas of its OpenCV version, written out."""

from collections.abc import Callable
from random import Random

import cv2
import numpy as np
import pytest

from blip.data.randaugment import OPERATIONS, randaugment

from .conftest import Pixels, draw

BY_NAME = {operation.__name__: operation for operation in OPERATIONS}
GREY = (128, 128, 128)
LEVELS = [0, 2, 5, 8, 10]  # of 10


def natural(seed: int, side: int = 64) -> Pixels:
    """A picture that does not use the whole range."""
    return (draw(seed, side, side).astype(float) * 0.6 + 40).astype(np.uint8)


def autocontrast(image: Pixels) -> Pixels:
    result = np.empty_like(image)
    for channel in range(3):
        low, high = float(image[..., channel].min()), float(image[..., channel].max())
        scale = 255 / (high - low)
        table = np.arange(256) * scale - low * scale
        result[..., channel] = table.clip(0, 255).astype(np.uint8)[image[..., channel]]
    return result


def equalize(image: Pixels) -> Pixels:
    result = np.empty_like(image)
    for channel in range(3):
        histogram = np.histogram(image[..., channel], 256, (0, 256))[0]
        step = histogram[histogram != 0][:-1].sum() // 255
        shifted = np.empty_like(histogram)
        shifted[0], shifted[1:] = step // 2, histogram[:-1]
        table = (np.cumsum(shifted) // step).clip(0, 255).astype(np.uint8)
        result[..., channel] = table[image[..., channel]]
    return result


def brightness(image: Pixels, level: int) -> Pixels:
    factor = level / 10 * 1.8 + 0.1
    return (np.arange(256, dtype=np.float32) * factor).clip(0, 255).astype(np.uint8)[image]


def sharpness(image: Pixels, level: int) -> Pixels:
    """The published code forgets to clip; else this is it."""
    factor = level / 10 * 1.8 + 0.1
    padded = image.astype(np.float64)
    total = sum(padded[1 + dy : 63 + dy, 1 + dx : 63 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    smooth = np.rint((total + 4 * padded[1:-1, 1:-1]) / 13)
    result = image.copy()
    result[1:-1, 1:-1] = (smooth + factor * (padded[1:-1, 1:-1] - smooth)).clip(0, 255)
    return result


def moved(image: Pixels, matrix: list[list[float]]) -> Pixels:
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, np.array(matrix, np.float64), size, borderValue=GREY), np.uint8)


def geometric(name: str, image: Pixels, level: int, sign: int) -> Pixels:
    side = image.shape[0]
    share = sign * level / 10
    if name == "rotate":
        angle = np.deg2rad(share * 30)
        c, s, middle = np.cos(angle), np.sin(angle), side / 2
        return moved(image, [[c, s, (1 - c) * middle - s * middle], [-s, c, s * middle + (1 - c) * middle]])
    shift = share * 10 * side / 224
    matrices: dict[str, list[list[float]]] = {
        "shear_x": [[1, share * 0.3, 0], [0, 1, 0]],
        "shear_y": [[1, 0, 0], [share * 0.3, 1, 0]],
        "translate_x": [[1, 0, shift], [0, 1, 0]],
        "translate_y": [[1, 0, 0], [0, 1, shift]],
    }
    return moved(image, matrices[name])


def test_there_are_the_ten_operations() -> None:
    assert [operation.__name__ for operation in OPERATIONS] == [
        "identity", "autocontrast", "brightness", "sharpness", "equalize", "shear_x", "shear_y", "translate_x",
        "translate_y", "rotate",
    ]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
def test_colours_change_by_the_published_formulas(level: int) -> None:
    for seed in range(5):
        image, rng = natural(seed), Random(0)
        assert np.array_equal(BY_NAME["identity"](image, level / 10, rng), image)
        assert np.array_equal(BY_NAME["autocontrast"](image, level / 10, rng), autocontrast(image))
        assert np.array_equal(BY_NAME["equalize"](image, level / 10, rng), equalize(image))
        assert np.array_equal(BY_NAME["brightness"](image, level / 10, rng), brightness(image, level))
        ours = BY_NAME["sharpness"](image, level / 10, rng).astype(int)
        assert np.abs(ours - sharpness(image, level)).max() <= 1  # a half may be rounded either way


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_pictures_move_by_the_published_amounts_either_way(name: str, level: int) -> None:
    image = natural(1)
    either = [geometric(name, image, level, sign) for sign in (1, -1)]
    seen = set()
    for seed in range(12):
        result = BY_NAME[name](image, level / 10, Random(seed))
        apart = [float(np.abs(result.astype(int) - one).mean()) for one in either]
        assert min(apart) < 0.05, apart
        seen.add(int(np.argmin(apart)))
    assert seen == ({0, 1} if level else {0})


def test_at_blips_level_brightness_and_sharpness_change_nothing() -> None:
    image = natural(2)
    assert np.array_equal(BY_NAME["brightness"](image, 0.5, Random(0)), image)
    assert np.array_equal(BY_NAME["sharpness"](image, 0.5, Random(0)), image)


def test_ten_pixels_at_224_is_what_translation_means() -> None:
    image = draw(0, 224, 224)
    result = BY_NAME["translate_x"](image, 1.0, Random(1))
    left, right = result[:, :10], result[:, -10:]
    assert (left == 128).all() or (right == 128).all()
    assert np.array_equal(result[:, 10:], image[:, :-10]) or np.array_equal(result[:, :-10], image[:, 10:])


def test_what_moves_in_is_grey() -> None:
    assert BY_NAME["rotate"](natural(3), 0.5, Random(0))[0, 0].tolist() == [128, 128, 128]


def test_one_colour_survives_stretching_and_equalizing() -> None:
    image = np.full((16, 16, 3), 77, np.uint8)
    assert np.array_equal(BY_NAME["autocontrast"](image, 0.5, Random(0)), image)
    assert np.array_equal(BY_NAME["equalize"](image, 0.5, Random(0)), image)


def test_two_operations_are_drawn_and_each_applied_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    applied = [0] * 10

    def counting(number: int) -> Callable[[Pixels, float, Random], Pixels]:
        def count(image: Pixels, strength: float, rng: Random) -> Pixels:
            assert strength == 0.5
            applied[number] += 1
            return image

        return count

    monkeypatch.setattr("blip.data.randaugment.OPERATIONS", tuple(counting(number) for number in range(10)))
    for seed in range(5000):
        randaugment(draw(0, 4, 4), Random(seed))
    assert 4850 < sum(applied) < 5150, "one of two"
    assert all(400 < count < 600 for count in applied), applied


def test_equal_seeds_augment_equally() -> None:
    image = draw(0)
    results = [randaugment(image, Random(seed)) for seed in range(30)]
    again = [randaugment(image, Random(seed)) for seed in range(30)]
    assert all(np.array_equal(one, other) for one, other in zip(results, again, strict=True))
    assert len({result.tobytes() for result in results}) > 5


def test_every_operation_keeps_size_and_type_even_of_a_pixel() -> None:
    for width, height in ((32, 24), (1, 1), (2, 5)):
        image = draw(0, width, height)
        for operation in OPERATIONS:
            result = operation(image, 0.3, Random(1))
            assert (result.shape, result.dtype) == ((height, width, 3), np.uint8), operation.__name__


def test_the_input_is_left_as_it_was() -> None:
    image = draw(0)
    before = image.copy()
    for operation in OPERATIONS:
        operation(image, 0.8, Random(0))
    assert np.array_equal(image, before)

import numpy as np
import pytest
from PIL import Image

from blip.data.decode import decode
from blip.data.phash import HashIndex, _masks, earlier, phash, thumbnail

from .conftest import draw, encoded


def bits(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_copies_of_a_picture_have_close_hashes() -> None:
    for seed in range(10):
        pixels = draw(seed, 96, 96)
        half = np.asarray(Image.fromarray(pixels).resize((48, 48)))
        jpeg = decode(encoded(pixels, "jpg", quality=50))
        assert bits(phash(pixels), phash(half)) <= 4
        assert bits(phash(pixels), phash(jpeg)) <= 4


def test_other_pictures_have_distant_hashes() -> None:
    hashes = [phash(draw(seed)) for seed in range(30)]
    assert min(bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 10


def test_the_hash_fits_64_bits_even_of_a_blank_picture() -> None:
    assert 0 <= phash(np.full((8, 8, 3), 255, np.uint8)) < 1 << 64


def test_the_nearest_reference_within_the_limit_is_found() -> None:
    references = np.array([0b1111, 0b1, 0xFFFF_FFFF_FFFF_FFFF], np.uint64)
    hashes = np.array([0b11, 0b1111, 0xF0F0_0000, 0xFFFF_FFFF_FFFF_FFF0], np.uint64)
    assert HashIndex(references, 4).nearest(hashes).tolist() == [1, 0, -1, 2]
    assert HashIndex(references[:0], 4).nearest(hashes).tolist() == [-1] * 4


def test_many_hashes_are_compared_in_pieces() -> None:
    rng = np.random.default_rng(0)
    references = rng.integers(0, 1 << 63, 3_000, dtype=np.uint64)
    hashes = np.concatenate(
        [references[::2] ^ np.uint64(1), rng.integers(0, 1 << 63, 1_000, dtype=np.uint64)]
    )
    found = HashIndex(references, 2).nearest(hashes)
    assert found[:1_500].tolist() == list(range(0, 3_000, 2))
    assert (found[1_500:] == -1).all()


def test_colours_tell_pictures_apart_that_are_alike_in_grey() -> None:
    red = np.full((32, 32, 3), 230, np.uint8)
    red[8:24, 8:24] = (200, 40, 40)
    blue = red[..., ::-1].copy()
    blue[8:24, 8:24] = (40, 74, 200)  # as bright as the red
    hashes, others = np.array([phash(red)], np.uint64), np.array([phash(blue)], np.uint64)
    assert HashIndex(others, 4).nearest(hashes).tolist() == [0]
    assert HashIndex(others, 4, thumbnail(blue)[None]).nearest(hashes, thumbnail(red)[None]).tolist() == [-1]
    darker = thumbnail((red * 0.9).astype(np.uint8))
    assert HashIndex(hashes, 4, darker[None]).nearest(hashes, thumbnail(red)[None]).tolist() == [0]


def exhaustive(hashes: np.ndarray, references: np.ndarray, bits: int) -> list[int]:
    """The nearest reference by comparing every pair, the first of equally near ones, or -1."""
    if not len(references):
        return [-1] * len(hashes)
    distances = np.bitwise_count(hashes[:, None] ^ references[None])
    nearest = distances.argmin(1)
    return np.where(distances.min(1) <= bits, nearest, -1).tolist()


def crowded(seed: int, count: int) -> np.ndarray:
    """Hashes in clusters: a few centres with up to 9 bits flipped, many of them equal."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 1 << 64, 1 + count // 8, dtype=np.uint64)
    hashes = centres[rng.integers(0, len(centres), count)]
    for _ in range(9):
        flip = np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
        hashes = np.where(rng.random(count) < 0.35, hashes ^ flip, hashes)
    return hashes


@pytest.mark.parametrize("bits", [0, 1, 3, 4, 7, 12, 40, 63, 64])
@pytest.mark.parametrize("references", [0, 1, 40, 3_000])
def test_looking_up_finds_what_comparing_every_pair_finds(bits: int, references: int) -> None:
    for seed in range(3):
        known = crowded(seed, references) if references else np.empty(0, np.uint64)
        hashes = np.concatenate([crowded(seed, 200), known[:50]])
        assert HashIndex(known, bits).nearest(hashes).tolist() == exhaustive(hashes, known, bits)


@pytest.mark.parametrize("bits", [0, 2, 4, 9])
def test_the_nearest_picture_before_each_is_found_without_comparing_every_pair(bits: int) -> None:
    for seed in range(3):
        hashes = crowded(seed, 700)
        expected = [exhaustive(hashes[at : at + 1], hashes[:at], bits)[0] for at in range(len(hashes))]
        assert earlier(hashes, bits).tolist() == expected
    assert earlier(np.empty(0, np.uint64), bits).tolist() == []


def test_a_hundred_thousand_blank_pictures_are_as_quick_as_one() -> None:
    blank = np.zeros(100_000, np.uint64)
    found = earlier(blank, 4)
    assert found[0] == -1
    assert (found[1:] == 0).all()


@pytest.mark.parametrize(
    ("bits", "references"), [(4, 0), (4, 100_000), (4, 5_000_000), (8, 100_000), (2, 10_000)]
)
def test_no_two_hashes_within_the_bits_differ_in_every_choice_of_blocks(bits: int, references: int) -> None:
    masks, rng = _masks(bits, references), np.random.default_rng(0)
    assert len(masks) < 600
    for _ in range(300):
        apart = sum(1 << int(bit) for bit in rng.choice(64, bits, replace=False))
        assert any(not apart & int(mask) for mask in masks)

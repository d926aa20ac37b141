import numpy as np
from PIL import Image

from blip.data.images import decode
from blip.data.phash import near_duplicates, phash, thumbnail

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
    assert near_duplicates(hashes, references, 4).tolist() == [1, 0, -1, 2]
    assert near_duplicates(hashes, references[:0], 4).tolist() == [-1] * 4


def test_many_hashes_are_compared_in_pieces() -> None:
    rng = np.random.default_rng(0)
    references = rng.integers(0, 1 << 63, 3_000, dtype=np.uint64)
    hashes = np.concatenate(
        [references[::2] ^ np.uint64(1), rng.integers(0, 1 << 63, 1_000, dtype=np.uint64)]
    )
    found = near_duplicates(hashes, references, 2)
    assert found[:1_500].tolist() == list(range(0, 3_000, 2))
    assert (found[1_500:] == -1).all()


def test_colours_tell_pictures_apart_that_are_alike_in_grey() -> None:
    red = np.full((32, 32, 3), 230, np.uint8)
    red[8:24, 8:24] = (200, 40, 40)
    blue = red[..., ::-1].copy()
    blue[8:24, 8:24] = (40, 74, 200)  # as bright as the red
    hashes = np.array([phash(red)], np.uint64), np.array([phash(blue)], np.uint64)
    colours = thumbnail(red)[None], thumbnail(blue)[None]
    assert near_duplicates(*hashes, 4).tolist() == [0]
    assert near_duplicates(*hashes, 4, *colours).tolist() == [-1]
    darker = (red * 0.9).astype(np.uint8)
    assert near_duplicates(hashes[0], hashes[0], 4, colours[0], thumbnail(darker)[None]).tolist() == [0]

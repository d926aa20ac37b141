"""The views that models have of a batch's pictures: the same whoever makes them, and when."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip.capfilt.inputs import Models
from blip.capfilt.pictures import AHEAD, View, ahead, look
from blip.data.images import normalise, preprocess
from blip.data.pairs import Sample
from blip.machine import usable_cores

WANTED = (View(24), View(16, 0.5), View(16))


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def batches(count: int) -> list[list[Sample]]:
    return [[Sample(f"{n}-{m}", png(10 * n + m), "png", ()) for m in range(3)] for n in range(count)]


def test_a_whole_view_is_what_preprocessing_makes() -> None:
    pictures = [png(1), png(2)]
    for view, pixels in look(pictures, (View(24), View(16))).items():
        assert pixels.dtype == torch.uint8
        assert torch.equal(normalise(pixels), preprocess(pictures, view.size))


@pytest.mark.parametrize("count", [0, 1, AHEAD, 7])
def test_threads_make_the_same_in_the_same_order(count: int) -> None:
    found, expected = (list(ahead(batches(count), WANTED, threads)) for threads in (3, 0))
    assert [[sample.key for sample in seen.batch] for seen in found] == [
        [f"{n}-{m}" for m in range(3)] for n in range(count)
    ]
    for seen, other in zip(found, expected, strict=True):
        assert seen.views.keys() == other.views.keys() == set(WANTED)
        assert all(torch.equal(seen.views[view], other.views[view]) for view in WANTED)


def test_threads_have_no_more_than_a_few_batches_in_hand() -> None:
    drawn = 0

    def counted() -> Iterator[list[Sample]]:
        nonlocal drawn
        for batch in batches(9):
            drawn += 1
            yield batch

    made = ahead(counted(), WANTED, threads=2)
    next(made)
    assert drawn == AHEAD + 1
    made.close()
    assert drawn == AHEAD + 1


@pytest.mark.parametrize("threads", [0, 2])
def test_a_picture_that_cannot_be_decoded_is_refused_and_the_others_of_its_batch_are_seen(
    threads: int,
) -> None:
    (good,) = batches(1)
    bad = [Sample(name, b"no picture", "png", ()) for name in ("bad", "worse")]
    mixed, nothing = ahead([[good[0], bad[0], *good[1:]], bad], WANTED, threads)
    (whole,) = ahead([good], WANTED, 0)
    assert mixed.good == good and list(mixed.refused) == ["bad"]
    assert mixed.refused["bad"].reason == "not_an_image"
    assert all(torch.equal(mixed.views[view], whole.views[view]) for view in WANTED)
    assert nothing.good == [] and nothing.batch == bad and list(nothing.refused) == ["bad", "worse"]
    assert all(nothing.views[view].shape == (0, 3, view.size, view.size) for view in WANTED)


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE"])  # torchrun's and DeepSpeed's
def test_ranks_of_a_machine_share_its_cores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu = (Models(Path("captioner"), (), device) for device in ("cpu", "cuda"))
    assert (on_cpu.decoders, on_gpu.decoders) == (0, usable_cores())
    monkeypatch.setenv(name, str(usable_cores()))
    assert on_gpu.decoders == 1

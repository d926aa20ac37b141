"""The figures of a filter."""

import io
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.errors import BlipError
from blip.tasks.matching import as_mask, ask, roc_auc


def test_the_area_is_the_share_of_pairs_in_order():
    matched = as_mask([True, True, False, False])
    assert roc_auc(torch.tensor([0.9, 0.4, 0.4, 0.1]), matched) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_scores_that_are_no_numbers_say_what_to_do(broken: float):
    with pytest.raises(BlipError, match=r"1 of 2 scores of the filter are no finite numbers.*train it again"):
        roc_auc(torch.tensor([broken, 0.1]), as_mask([True, False]))


def test_a_large_dataset_is_asked_about_all_over(tmp_path: Path) -> None:
    """Its samples stand one source after the other; all of a small one are asked about."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    with PairsWriter(tmp_path / "held_out", samples_per_shard=2, parents=[], parameters={}) as writer:
        for number in range(12):
            source = "shop" if number < 6 else "archive"
            caption = Caption(f"{source} {number}", "human")
            writer.add(Sample(f"s{number}", picture.getvalue(), "png", (caption,), (), 8, 8))
    held_out = PairsDataset.open(tmp_path / "held_out")
    asked = [sample.key for batch in ask(held_out, frozenset(), limit=4) for sample in batch.samples]
    assert asked == ["s0", "s2", "s6", "s8"]
    assert sum(len(batch.samples) for batch in ask(held_out, frozenset({"s3"}), limit=12)) == 11

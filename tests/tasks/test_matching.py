"""The figures of a filter."""

import math

import pytest
import torch

from blip.errors import BlipError
from blip.tasks.matching import as_mask, roc_auc


def test_the_area_is_the_share_of_pairs_in_order():
    matched = as_mask([True, True, False, False])
    assert roc_auc(torch.tensor([0.9, 0.4, 0.4, 0.1]), matched) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_scores_that_are_no_numbers_say_what_to_do(broken: float):
    with pytest.raises(BlipError, match=r"1 of 2 scores of the filter are no finite numbers.*train it again"):
        roc_auc(torch.tensor([broken, 0.1]), as_mask([True, False]))

"""What the templates of the pages say of numbers."""

import pytest

from blip.report.templating import environment


@pytest.mark.parametrize(
    ("score", "threshold", "shown"),
    [
        (0.0097, 0.00994510076130453, "0.0097"),  # not 0.010, with the page's "kept from 0.00995 on"
        (0.00994509, 0.00994510076130453, "0.009945"),
        (0.00994510076130453, 0.00994510076130453, "0.010"),
        (0.0103, 0.00994510076130453, "0.01"),
        (0.1961, 0.2, "0.196"),
        (0.2049, 0.2, "0.20"),
        (0.0003, 0.0005, "0.0003"),
        (0.0003, 0.5, "<0.001"),
        (0.9999, 0.5, "0.9999"),
        (1.0, 1.0, "1"),
        (0.0, 0.0, "<0.001"),
    ],
)
def test_a_score_is_shown_on_the_side_of_its_threshold_on_which_it_is(
    score: float, threshold: float, shown: str
) -> None:
    page = environment().from_string("{{ score | probability(cut) | safe }}")
    assert page.render(score=score, cut=threshold).replace("&lt;", "<") == shown

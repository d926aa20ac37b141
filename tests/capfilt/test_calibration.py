"""Thresholds by what they give, against counting by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from blip.capfilt.bootstrap import bootstrap, find_threshold
from blip.capfilt.calibration import Measured, measure, threshold_for_share
from blip.capfilt.inputs import Models, Order, Pairs
from blip.capfilt.jury import jury_of
from blip.config import CapFilt, Wish
from blip.data.pairs import PairsDataset
from blip.errors import BlipError
from blip.tasks.matching import OTHERS

from .conftest import damage_a_picture, write

MEASURED = Measured(np.array([0.9, 0.8, 0.8, 0.3]), np.array([0.8, 0.4, 0.2, 0.1]))


def test_a_point_is_what_counting_gives() -> None:
    point = MEASURED.at(0.5, noise=0.5)
    assert point == pytest.approx((0.5, 3 / 4, 3 / 4, 4 / 8))
    point = MEASURED.at(0.5, noise=0.8)  # four wrong texts for each right one
    assert point == pytest.approx((0.5, 0.15 / 0.35, 0.75, 0.35))


def test_where_nothing_is_kept_the_precision_is_no_number() -> None:
    point = MEASURED.at(0.95, noise=0.5)
    assert math.isnan(point.precision) and (point.recall, point.kept) == (0, 0)
    with pytest.raises(BlipError, match=r"the best is 0\.800"):
        Measured(np.array([0.1, 0.2]), np.array([0.1, 0.3])).threshold_for(0.9, noise=0.2)


def test_ties_count_half_in_the_area_under_the_curve() -> None:
    assert MEASURED.roc_auc == pytest.approx((4 + 3.5 + 3.5 + 2) / 16)


def test_the_lowest_threshold_with_a_precision() -> None:
    assert MEASURED.threshold_for(0.75, noise=0.5) == 0.8
    assert MEASURED.threshold_for(0.9, noise=0.5) == 0.9
    assert MEASURED.threshold_for(0.5, noise=0.5) == 0.0


def test_a_precision_out_of_reach_says_what_can_be_had() -> None:
    measured = Measured(np.array([0.5, 0.6]), np.array([0.5, 0.7]))
    with pytest.raises(BlipError, match=r"reaches a precision of 0\.99.*the best is 0\.500"):
        measured.threshold_for(0.99, noise=0.5)


def test_the_interval_of_a_precision_is_that_of_other_held_out_pictures() -> None:
    """Of many sets of pictures, each with its texts, 95% have their precision in it."""
    rng = np.random.default_rng(1)
    sure = rng.random(300)  # a picture whose own text is doubted also takes others' texts for its own
    matched = (rng.random(300) < 0.3 + 0.7 * sure).astype(float)
    mismatched = (rng.random((300, 8)) < 0.5 * (1 - sure[:, None])).astype(float)
    picture = np.repeat(np.arange(300), 8)
    low, high = Measured(matched, mismatched.ravel(), picture).interval(0.5, noise=0.5)
    drawn = (rng.integers(300, size=300) for _ in range(1000))
    precisions = [Measured(matched[of], mismatched[of].ravel()).at(0.5, 0.5).precision for of in drawn]
    assert (low, high) == pytest.approx(np.quantile(precisions, (0.025, 0.975)), abs=0.01)
    by_themselves = Measured(matched, mismatched.ravel(), np.arange(2400) % 300).interval(0.5, noise=0.5)
    assert high - low > 1.1 * (by_themselves[1] - by_themselves[0]), (
        "texts of a picture are no chances of their own"
    )


def test_where_nothing_is_kept_there_is_no_interval() -> None:
    assert all(map(math.isnan, MEASURED.interval(0.95, noise=0.5)))


def test_probabilities_that_are_no_numbers_give_no_threshold() -> None:
    with pytest.raises(
        BlipError, match=r"2 of 3 probabilities of the filter are no numbers.*judge in float32"
    ):
        Measured(np.array([math.nan, 0.4]), np.array([math.nan])).threshold_for(0.9, noise=0.5)


@pytest.fixture
def held_out(tmp_path: Path) -> PairsDataset:
    return write(tmp_path / "held_out", "held", ["red apple", "the dog", "green table", "red table"], "human")


def test_every_held_out_pair_is_judged_with_its_own_and_with_other_texts(
    held_out: PairsDataset, models: Models
) -> None:
    jury = jury_of(models, CapFilt.model_validate({}), None)
    one, two, other = (measure(jury, Pairs(held_out.path), seed) for seed in (0, 0, 1))
    assert (len(one.matched), len(one.mismatched)) == (4, 4 * OTHERS)
    assert one.picture is not None and np.bincount(one.picture).tolist() == [OTHERS] * 4
    assert one.mismatched.tolist() == two.mismatched.tolist() != other.mismatched.tolist()
    assert one.matched.tolist() == other.matched.tolist()


def test_a_wished_share_of_the_web_texts_is_kept(web: PairsDataset, models: Models) -> None:
    jury = jury_of(models, CapFilt(), None)
    threshold = find_threshold(Wish(keep=0.5), 0.5, jury, Pairs(web.path), None)
    scores = measure(jury, Pairs(web.path)).matched  # of the six web texts that are not empty
    assert 3 <= (scores >= threshold).sum() <= 4


def test_a_small_share_keeps_few_and_a_large_one_many(web: PairsDataset, models: Models) -> None:
    jury = jury_of(models, CapFilt(), None)
    scores = measure(jury, Pairs(web.path)).matched
    few, many = (
        (scores >= find_threshold(Wish(keep=share), 0.5, jury, Pairs(web.path), None)).sum()
        for share in (0.2, 0.8)
    )
    assert few <= 3 and many >= 5


def test_a_share_is_found_without_the_damaged_shards_and_pictures(models: Models, tmp_path: Path) -> None:
    """The jobs that bootstrap them set them aside; up to capfilt.max_bad_fraction nothing stops for them."""
    texts = ["red apple", "the dog", "green table", "dog on table"] * 3
    sound, pool = (write(tmp_path / name, "web", texts, "web") for name in ("sound", "pool"))
    damage_a_picture(pool, "web-1")
    (pool.path / pool.manifest.shards[2].url).write_bytes(b"no shard")
    jury = jury_of(models, CapFilt(), None)
    readable = np.delete(measure(jury, Pairs(sound.path)).matched, [1, 8, 9, 10, 11])
    expected = np.quantile(readable, 0.5, method="lower")
    assert threshold_for_share(jury, Pairs(pool.path), 0.5) == pytest.approx(expected, abs=1e-5)
    settings = CapFilt.model_validate({"threshold": {"keep": 0.5}, "max_bad_fraction": 0.5})
    assert bootstrap(Order(Pairs(pool.path), None, models, settings), tmp_path / "out").bad == 5


def test_a_precision_needs_held_out_pairs(web: PairsDataset, models: Models) -> None:
    with pytest.raises(BlipError, match="measured on held-out human pairs"):
        find_threshold(Wish(precision=0.9), 0.5, jury_of(models, CapFilt(), None), Pairs(web.path), None)


def test_a_threshold_has_one_wish() -> None:
    with pytest.raises(ValueError, match="either keep or precision"):
        CapFilt.model_validate({"threshold": {"keep": 0.5, "precision": 0.9}})


def test_the_command_shows_no_precision_where_nothing_is_kept(
    held_out: PairsDataset, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from blip.cli import app

    drawn: list[list[float]] = []

    def plot(self: Axes, x: list[float], y: list[float], **style: object) -> list[Line2D]:
        drawn.append(y)
        return old(self, x, y, **style)

    old = Axes.plot
    monkeypatch.setattr(Axes, "plot", plot)
    monkeypatch.setattr("blip.capfilt.calibration.measure", lambda *_: MEASURED)
    command = ["calibrate", str(held_out.path), "--filter", str(models.filters[0]), "--device", "cpu"]
    ended = CliRunner().invoke(app, [*command, "--png", str(tmp_path / "curve.png")])
    assert ended.exit_code == 0, ended.output
    assert ended.output.splitlines()[-1].split() == ["0.998", "-", "0.000", "0.000"]
    assert math.isnan(drawn[0][-1]) and drawn[0][0] == 0.5, "a gap in the curve"
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert told["points"][-1]["precision"] is None and told["points"][0]["precision"] == 0.5

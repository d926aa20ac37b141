"""What the stages left behind is read; what is not there is left out; what is broken is named."""

import math
from pathlib import Path

import pytest

from blip.errors import BlipError
from blip.report.artefacts import read_artefacts


def test_an_empty_folder_has_nothing(empty: Path) -> None:
    found = read_artefacts(empty)
    assert (found.stages, found.curves, found.examples) == ({}, {}, {})


def test_figures_come_by_stage_and_altogether(finished: Path) -> None:
    found = read_artefacts(finished)
    assert found.stages["evaluate@video"]["video.t2v_r1"] == 0.636
    assert found.figures["video.t2v_r1"] == 0.636
    assert "seconds" not in found.figures
    assert found.seconds["pretrain"] == 131.0


def test_a_loss_that_a_run_does_not_have_is_nan(finished: Path) -> None:
    curve = read_artefacts(finished).curves["finetune@vqa"]
    assert curve["step"][0] == 20
    assert all(math.isnan(value) for value in curve["itc"])


def test_examples_come_with_how_they_were_drawn(finished: Path) -> None:
    found = read_artefacts(finished).examples["retrieval"]
    assert found.selection["of"] == 424
    assert len(found.shown) == len(found.text_to_image) == 24


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metrics/pretrain.json", "{"),
        ("metrics/pretrain.json", '{"loss": "low"}'),
        ("metrics/pretrain.json", "[1]"),
        ("metrics/curves/pretrain.csv", "step,loss\n20,low\n"),
        ("reports/evaluate/vqa/examples.json", "nothing"),
    ],
)
def test_a_broken_file_is_named(finished: Path, file: str, text: str) -> None:
    (finished / file).write_text(text)
    with pytest.raises(BlipError, match=file):
        read_artefacts(finished)

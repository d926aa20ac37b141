"""What a training stage says of its model on the validation data."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from blip.capfilt.calibration import measure
from blip.capfilt.inputs import Models, Pairs
from blip.capfilt.jury import jury_of
from blip.config import CapFilt, Settings, load_settings
from blip.data.pairs import Caption, Sample
from blip.errors import BlipError
from blip.model.api import Blip
from blip.stages.choosing import validated_by
from blip.stages.scores import Score, captioning, matching, retrieval
from blip.tasks import inputs
from blip.tracking.registry import weights_digest
from tests import tiny

from .conftest import ROOT, pictures, write


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    tiny.save(Path("models/filter"), 0)
    return load_settings(ROOT / "params.yaml", overrides={"compute.device": "cpu"})


def captioned(*texts: str) -> list[Sample]:
    samples = islice(pictures("test"), len(texts))
    captions = [(Caption(text, "human"),) if text else () for text in texts]
    return [replace(sample, captions=own) for sample, own in zip(samples, captions, strict=True)]


def test_a_filter_that_errs_nowhere_has_full_marks_where_captions_repeat(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["red apple", "Red apple.", "dog", "red apple", "", "dog"]
    write(Path(), "validation", captioned(*texts))
    of_images = ["red apple", "red apple", "dog", "red apple", "dog"]

    def perfect(_: Blip, tokens: torch.Tensor, rows: torch.Tensor, given: list[str], columns: torch.Tensor):
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return torch.tensor([1.0 if of_images[row] == given[column] else -1.0 for row, column in pairs])

    monkeypatch.setattr(Blip, "score_pairs", perfect)
    figures = matching.measure("filter", Path("models/filter"), settings).figures
    assert figures.pop("filter.validation_itc_auc") < 1
    assert figures == {"filter.validation_auc": 1.0, "filter.validation_accuracy": 1.0}


def test_a_real_filter_is_measured(settings: Settings) -> None:
    write(Path(), "validation", captioned("red apple", "dog", "the table"))
    figures = matching.measure("filter", Path("models/filter"), settings).figures
    assert all(0 <= value <= 1 for value in figures.values())


def test_the_members_of_a_filter_are_measured_together(settings: Settings) -> None:
    write(Path(), "validation", captioned("red apple", "dog", "the table", "green apple"))
    judge = Path("models/filter")
    alone = matching.measure("filter", judge, settings)
    tiny.save(judge / "members/2", 1)
    together = matching.measure("filter", judge, settings)
    jury = jury_of(Models.of(judge, [judge], "cpu"), CapFilt(), None)
    found = measure(jury, Pairs(Path("data/datasets/validation")))
    assert len(jury.judges) == 2
    assert together.figures["filter.validation_auc"] == pytest.approx(found.roc_auc)
    assert together.figures["filter.validation_accuracy"] == found.accuracy
    assert together.figures != alone.figures
    named = together.measured["filter.validation_auc"]
    assert named.weights == (weights_digest(judge),) != alone.measured["filter.validation_auc"].weights
    assert named.how == alone.measured["filter.validation_auc"].how


def test_what_a_filter_has_learnt_is_measured_whatever_capfilt_makes_of_it(settings: Settings) -> None:
    write(Path(), "validation", captioned("red apple", "dog", "the table", "green apple"))
    how = settings.capfilt.model_copy(update={"head": "itm", "views": (0.5,), "likelihood": 0.0})
    other = settings.model_copy(update={"capfilt": how})
    one, two = (matching.measure("filter", Path("models/filter"), s) for s in (settings, other))
    assert one == two and not Path("data/datasets/human").exists()
    assert one.measured["filter.validation_auc"].settings == ()


def test_filters_of_runs_with_other_seeds_are_compared(settings: Settings) -> None:
    write(Path(), "validation", captioned("red apple", "dog", "the table", "green apple"))
    other = settings.model_copy(update={"seed": settings.seed + 1})
    one, two = (matching.measure("filter", Path("models/filter"), s) for s in (settings, other))
    assert one == two


def test_embeddings_are_compared_however_much_is_re_ranked(settings: Settings) -> None:
    write(Path(), "validation", captioned("red apple", "dog"))
    how = settings.validation.retrieval.model_copy(update={"rerank": 1})
    other = settings.model_copy(
        update={"validation": settings.validation.model_copy(update={"retrieval": how})}
    )
    one, two = (retrieval.measure("pretrain", Path("models/filter"), s).measured for s in (settings, other))
    assert one["pretrain.validation.itc.i2t_r1"].how == two["pretrain.validation.itc.i2t_r1"].how
    assert one["pretrain.validation.i2t_r1"].how != two["pretrain.validation.i2t_r1"].how


def test_one_caption_alone_cannot_validate_a_filter(settings: Settings) -> None:
    write(Path(), "validation", captioned("dog", "Dog."))
    with pytest.raises(
        BlipError, match="validation: a filter is measured on pairs with different texts; it has 1"
    ):
        matching.measure("filter", Path("models/filter"), settings)


def test_a_model_is_validated_on_the_device_of_the_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On whichever: what is asked for is what is opened."""
    asked: list[str] = []
    whole = Blip.open

    def opened(directory: Path, device: str = "cpu", dtype: str = "float32") -> Blip:
        asked.append(device)
        return whole(directory, "cpu", dtype)

    monkeypatch.setattr(inputs.Blip, "open", opened)
    write(Path(), "validation", captioned("red apple", "dog", "the table"))
    on_gpu = settings.model_copy(update={"compute": settings.compute.model_copy(update={"device": "cuda"})})
    for score in (matching.SCORE, retrieval.SCORE, captioning.SCORE):
        score.measure("filter", Path("models/filter"), on_gpu)
    assert asked == ["cuda"] * 3


@pytest.mark.parametrize(("prefix", "named"), [("finetune.captioning", True), ("captioner", False)])
def test_the_data_of_a_fine_tuned_model_are_named_with_its_figures(
    settings: Settings, prefix: str, named: bool
) -> None:
    write(Path(), "validation", captioned("red apple", "dog"))
    found = captioning.measure(prefix, Path("models/filter"), settings).measured
    noted = dict(found[f"{prefix}.validation.cider"].settings)
    assert noted["validation.captioning.beams"] == "3"
    assert noted.get("validation.captioning.data") == ("validation" if named else None)


@pytest.mark.parametrize(
    ("score", "prefix"),
    [(retrieval.SCORE, "finetune.retrieval"), (captioning.SCORE, "captioner"), (matching.SCORE, "filter")],
)
def test_the_figures_by_which_candidates_are_chosen_are_measured(
    settings: Settings, score: Score, prefix: str
) -> None:
    write(Path(), "validation", captioned("red apple", "dog", "the table"))
    found = score.measure(prefix, Path("models/filter"), settings).figures
    assert {prefix + end for end in score.decides} <= found.keys()


def test_candidates_are_chosen_anew_on_other_validation_data(settings: Settings) -> None:
    write(Path(), "validation", captioned("red apple", "dog"))
    run = settings.captioner.model_copy(update={"candidates": 2})
    before = validated_by(run, settings, captioning.SCORE)
    write(Path(), "validation", captioned("red apple", "dog", "the table"))
    assert before and before != validated_by(run, settings, captioning.SCORE)
    assert validated_by(settings.captioner, settings, captioning.SCORE) == {}

"""A head that no loss has trained is not saved as if it were: nothing is measured by it, and it says so when asked."""

from pathlib import Path

import pytest

from blip.config import load_settings
from blip.errors import BadArguments, BlipError
from blip.model.api import Blip
from tests import tiny

from .captioner_run import make_project
from .conftest import ROOT, TOY_MODEL, train_apart

LOSSES = ("itc", "itm", "lm")


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, *losses: str) -> tuple[dict[str, float], Blip]:
    """The figures and the model of a pre-training by some of the three losses."""
    make_project(folder)
    (folder / "data/datasets/vocabulary").mkdir()
    (folder / "models/pretrain/vocab.txt").rename(folder / "data/datasets/vocabulary/vocab.txt")
    monkeypatch.chdir(folder)
    weights = {f"pretrain.objective.{loss}": float(loss in losses) for loss in LOSSES}
    few = {"pretrain.steps": 2, "pretrain.training.batch_size": 4, "pretrain.data": ["human"]}
    figures = train_apart("pretrain", TOY_MODEL | weights | few | {"validation.retrieval.rerank": 4})
    return figures, Blip.open(Path("models/pretrain"))


def measured(figures: dict[str, float]) -> set[str]:
    return {name for name in figures if name.startswith("pretrain.validation.")}


def test_embeddings_alone_are_measured_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, model = trained(tmp_path, monkeypatch, "itc")
    assert measured(figures) and all(".validation.itc." in name for name in measured(figures))
    assert model.can_embed and not model.can_match
    assert set(model.card.missing) == {"itm_head", "lm_head"}
    with pytest.raises(BlipError, match="this model cannot caption: its weights have no lm_head"):
        model.caption(tiny.images(1))


def test_a_language_model_alone_has_no_figures_of_retrieval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, model = trained(tmp_path, monkeypatch, "lm")
    assert measured(figures) == set() and figures["pretrain.training.steps"] == 2
    assert not model.can_embed and not model.can_match
    assert len(model.caption(tiny.images(1))) == 1


def test_three_losses_leave_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, model = trained(tmp_path, monkeypatch, *LOSSES)
    assert {"pretrain.validation.i2t_r1", "pretrain.validation.itc.i2t_r1"} <= measured(figures)
    assert model.card.missing == ()


def test_a_head_that_nothing_would_train_and_something_asks_for_is_refused() -> None:
    both = {"filter.objective.itm": 0.0, "pretrain.objective.itm": 0.0}
    with pytest.raises(BadArguments, match=r"filter\.objective\.itm is 0, and pretrain\.objective\.itm too"):
        load_settings(ROOT / "params.yaml", overrides=both)
    load_settings(ROOT / "params.yaml", overrides={"pretrain.objective.itm": 0.0})

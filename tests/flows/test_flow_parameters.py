"""Parameters of a flow are written into params.yaml, where DVC sees them."""

import shutil
from pathlib import Path

import pytest

from blip.config import load_settings
from blip.errors import BadArguments
from flows.parameters import write_parameters
from tests.flows.toy import ROOT


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's params.yaml, in the current folder, beside two recipes."""
    (tmp_path / "infra/recipes").mkdir(parents=True)
    (tmp_path / "infra/recipes/quick.yaml").write_text("pretrain: {steps: 5}\n")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def test_nothing_given_leaves_the_file_as_it_is_however_it_is_written(params):
    params.write_text(params.read_text().replace("\nseed: 7\n", "\nseed:    7\n"))
    before = params.read_bytes()

    assert write_parameters(None, {}) is False
    assert params.read_bytes() == before


def test_only_the_line_of_the_setting_changes(params):
    before = params.read_text().splitlines()

    assert write_parameters(None, {"capfilt.top_p": 0.8}) is True

    after = params.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [("  top_p: 0.9", "  top_p: 0.8")]


def test_the_same_value_again_changes_nothing(params):
    write_parameters(None, {"pretrain.steps": 12})

    assert write_parameters(None, {"pretrain.steps": 12}) is False


def test_a_setting_of_a_shared_block_is_set_for_the_run_named_alone(params):
    write_parameters(None, {"captioner.training.batch_size": 8})

    settings = load_settings()
    assert settings.captioner.training.batch_size == 8
    assert settings.filter.training.batch_size == 64
    assert "  training: {<<: *training, batch_size: 8}" in params.read_text()


def test_a_recipe_is_named_in_the_file(params):
    write_parameters("quick", {})

    assert "recipe: quick" in params.read_text()
    assert load_settings().pretrain.steps == 5


def test_the_recipe_named_before_is_taken_away_by_none(params):
    before = params.read_text()
    write_parameters("quick", {})

    write_parameters("none", {})

    assert params.read_text() == before
    assert load_settings().recipe is None


def test_null_stays_null(params):
    write_parameters(None, {"model.start": None})

    assert "  start: null" in params.read_text()
    assert load_settings().model.start is None


def test_an_unknown_setting_is_refused_and_the_file_stays(params):
    before = params.read_bytes()

    with pytest.raises(BadArguments, match=r"pretrain\.stepps: no such setting; did you mean 'steps'"):
        write_parameters(None, {"pretrain.stepps": 3})
    assert params.read_bytes() == before


def test_a_setting_that_the_recipe_sets_itself_is_refused(params):
    before = params.read_bytes()

    with pytest.raises(
        BadArguments, match=r"'quick' is laid over params\.yaml and sets pretrain\.steps itself"
    ):
        write_parameters("quick", {"pretrain.steps": 7})
    assert params.read_bytes() == before

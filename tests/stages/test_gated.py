"""The gate asks for models and figures that there are, before anything is trained or registered."""

from pathlib import Path

import pytest

from blip.config import load_settings
from blip.errors import BadArguments
from blip.stages.gated import CANDIDATES, CAPTIONING, MATCHING, QUESTIONS, RETRIEVAL, require_gate
from blip.stages.scores import captioning, matching, retrieval, vqa
from blip.tasks.captioning import caption_metrics, reference_figures

PARAMS = Path(__file__).parents[2] / "params.yaml"
RECIPES = sorted(path.stem for path in (PARAMS.parent / "infra/recipes").glob("*.yaml"))
ACCURACY = "finetune.vqa.validation.accuracy"


@pytest.mark.parametrize("recipe", ["none", *RECIPES])
def test_every_recipe_asks_for_what_there_is(recipe: str) -> None:
    settings = load_settings(PARAMS, recipe)
    require_gate(settings)
    for model, minimums in settings.gate.items():
        on_validation = {figure for figure in minimums if ".validation" in figure}
        assert on_validation <= set(CANDIDATES[model].measured)


@pytest.mark.parametrize(
    ("minimums", "message"),
    [
        ({"blip-vqq": {ACCURACY: 0.6}}, "no model 'blip-vqq'; the pipeline makes: blip-base"),
        (
            {"blip-vqa": {"finetune.vqa.validation.accurracy": 0.6}},
            f"accurracy, which nothing measures of it; did you mean '{ACCURACY}'",
        ),
        ({"blip-base": {ACCURACY: 0.6}}, f"blip-base must reach {ACCURACY}, which nothing measures of it"),
        ({"blip-vqa": {ACCURACY: 60}}, f"{ACCURACY} 60, which is a share: 0.6 is 60 per cent"),
        ({"blip-filter": {"filter.validation_ac": 0.8}}, "did you mean 'filter.validation_auc'"),
    ],
)
def test_what_no_run_could_pass_is_refused(minimums: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        require_gate(load_settings(PARAMS, overrides={"register.gate": minimums}))


def test_a_tolerance_of_no_figure_is_refused() -> None:
    with pytest.raises(BadArguments, match=r"no figure ends in 'cidr'; did you mean 'cider'\?"):
        require_gate(load_settings(PARAMS, overrides={"register.tolerances": {"cidr": 0.1}}))


def test_figures_on_test_data_and_those_that_are_no_shares_are_let_by() -> None:
    gate = {"blip-captioner": {"captioner.validation.cider": 5.0}, "blip-vqa": {"vqa.accuracy": 0.6}}
    settings = load_settings(PARAMS, overrides={"register.gate": gate})
    require_gate(settings)
    assert settings.gate == gate, "nothing of it was left out"


def test_the_figures_are_those_that_are_measured() -> None:
    written = ["a red apple", "a dog"]
    found = caption_metrics(written, [[text] for text in written]) | reference_figures([written])
    assert {f"validation.{name}" for name in found} == set(CAPTIONING)
    scores = (retrieval, captioning, vqa, matching)
    deciding = {end for score in scores for end in score.SCORE.decides}
    assert deciding <= {f".{name}" for name in (*RETRIEVAL, *CAPTIONING, *QUESTIONS, *MATCHING)}


def test_the_first_stage_refuses_it(blip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((PARAMS.parent / name).read_text())
    monkeypatch.chdir(tmp_path)
    refused = blip(
        "settings", "--out", "settings.yaml", "--set", f"register.gate={{blip-vqq: {{{ACCURACY}: 0.6}}}}"
    )
    assert refused.code == 2 and "no model 'blip-vqq'" in refused.err
    assert not Path("settings.yaml").exists()

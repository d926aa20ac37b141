"""The register stage: who passes is champion, who does not is said so, and nothing stops."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from blip.config import Settings, load_settings
from blip.errors import BadArguments, BlipError
from blip.stages import register
from blip.tracking import packaging, registry, store
from blip.tracking.measured import Measured, Scores, as_json
from blip.tracking.runs import stage_run

PARAMS = Path(__file__).parents[2] / "params.yaml"
GATE = {"blip-vqa": {"vqa.accuracy": 0.6}, "blip-filter": {"filter.roc_auc": 0.8}}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a gate for two models, in a folder that has both."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("vqa", 1.0), ("filter", 1.5)):
        write_weights(name, value)
    loaded = load_settings(PARAMS)
    return loaded.model_copy(update={"register_": loaded.register_.model_copy(update={"gate": GATE})})


def write_weights(name: str, value: float) -> None:
    Path("models", name).mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.full((4,), value)}, f"models/{name}/model.safetensors")


def measure(
    accuracy: float, auc: float | None, data: str = "ours", settings: tuple[tuple[str, str], ...] = ()
) -> None:
    """Write what evaluate@vqa and capfilt say of the models that are here."""
    note("evaluate_vqa", {"vqa.accuracy": accuracy}, "vqa", data, settings)
    note("capfilt", {} if auc is None else {"filter.roc_auc": auc}, "filter")


def note(
    stage: str,
    figures: dict[str, float],
    model: str,
    data: str = "ours",
    settings: tuple[tuple[str, str], ...] = (),
) -> None:
    Path("metrics").mkdir(exist_ok=True)
    how = Measured((registry.weights_digest(Path("models", model)),), data, settings)
    Path(f"metrics/{stage}.json").write_text(json.dumps(as_json(Scores.of(figures, how))))


def register_models(settings: Settings) -> dict[str, float]:
    with stage_run("register", settings) as run:
        return register.run(settings, run, None)


def test_models_enter_stay_fall_behind_and_come_back(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(accuracy=0.80, auc=None)
    assert register_models(settings) == {
        "register.blip-vqa.passed": 1.0,
        "register.blip-vqa.version": 1.0,
        "register.blip-filter.passed": 0.0,
        "register.blip-filter.version": 0.0,
    }
    assert "filter.roc_auc is not measured" in " ".join(capsys.readouterr().out.split())

    measure(accuracy=0.80, auc=0.93)
    metrics = register_models(settings)
    assert (metrics["register.blip-vqa.version"], metrics["register.blip-filter.version"]) == (1.0, 1.0)

    write_weights("vqa", 2.0)
    measure(accuracy=0.70, auc=0.93)
    metrics = register_models(settings)
    assert (metrics["register.blip-vqa.passed"], metrics["register.blip-vqa.version"]) == (0.0, 2.0)
    aliases = store.client().get_registered_model("blip-vqa").aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {"champion": 1, "challenger": 2}

    write_weights("vqa", 3.0)
    measure(accuracy=0.79, auc=0.93)
    assert register_models(settings)["register.blip-vqa.version"] == 3.0
    champion = registry.champion("blip-vqa")
    assert champion is not None
    assert (champion.number, champion.figures) == (3, {"vqa.accuracy": 0.79})


def test_a_gate_of_exact_match_is_doubted_where_references_are_sentences(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = {"blip-captioning": {"captioning.exact_match": 0.3}}
    asked = settings.model_copy(update={"register_": settings.register_.model_copy(update={"gate": gate})})
    write_weights("captioning", 1.0)
    for words, said in ((2.1, ""), (10.4, "references have 10 words on average")):
        measured = {"captioning.exact_match": 0.02, "captioning.reference_words": words}
        Path("metrics").mkdir(exist_ok=True)
        Path("metrics/evaluate_captioning.json").write_text(json.dumps(measured))
        register_models(asked)
        warned = capsys.readouterr().err
        assert said in warned and ("name captioning.cider instead" in warned) == bool(said)


def test_a_gate_of_test_data_is_doubted(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    gate = {"blip-vqa": {"vqa.accuracy": 0.6, "finetune.vqa.validation.accuracy": 0.6}}
    asked = settings.model_copy(update={"register_": settings.register_.model_copy(update={"gate": gate})})
    note("evaluate_vqa", {"vqa.accuracy": 0.8}, "vqa")
    note("finetune_vqa", {"finetune.vqa.validation.accuracy": 0.8}, "vqa")
    assert register_models(asked)["register.blip-vqa.passed"] == 1.0
    warned = capsys.readouterr().err
    assert "blip-vqa must reach vqa.accuracy, of test data (metrics/evaluate_vqa.json)" in warned
    assert warned.count("of test data") == 1


def test_champions_that_are_a_little_worse_each_do_not_add_up(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, accuracy in enumerate((0.80, 0.785, 0.78, 0.77, 0.79), 1):
        write_weights("vqa", float(number))
        measure(accuracy, auc=0.93)
        passed = register_models(settings)["register.blip-vqa.passed"]
        assert passed == (accuracy >= 0.80 - settings.register_.tolerance), accuracy
    assert "vqa.accuracy is 0.770, a champion had 0.800 (tolerance 0.02)" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_champion_whose_code_was_mended_is_served_with_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(accuracy=0.80, auc=0.93)
    register_models(settings)
    monkeypatch.setattr(packaging, "digest", lambda directory, task: "mended")
    metrics = register_models(settings)
    assert (metrics["register.blip-vqa.passed"], metrics["register.blip-vqa.version"]) == (1.0, 2.0)
    champion = registry.champion("blip-vqa")
    assert champion is not None
    assert (champion.number, champion.figures, champion.best) == (2, *[{"vqa.accuracy": 0.80}] * 2)


def test_a_champion_that_another_pipeline_promotes_meanwhile_is_not_taken_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(accuracy=0.80, auc=0.93)
    register_models(settings)
    uploads = registry.register

    def slowly(name: str, *arguments: Any, **named: Any) -> tuple[registry.Version, bool]:
        made = uploads(name, *arguments, **named)
        if name == "blip-vqa":  # the other one is registered and promoted while this one is uploaded
            write_weights("theirs", 9.0)
            figures = {"vqa.accuracy": 0.90}
            theirs, _ = uploads(name, Path("models/theirs"), **named | {"figures": figures})
            registry.promote(name, theirs.number)
        return made

    monkeypatch.setattr(registry, "register", slowly)
    write_weights("vqa", 2.0)
    measure(accuracy=0.81, auc=0.93)
    assert register_models(settings)["register.blip-vqa.passed"] == 0.0
    aliases = store.client().get_registered_model("blip-vqa").aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {"champion": 3, "challenger": 2}
    assert "vqa.accuracy is 0.810, a champion had 0.900" in " ".join(capsys.readouterr().out.split())


def test_after_a_promotion_by_hand_its_figures_count(settings: Settings) -> None:
    for number, accuracy, passes in ((1, 0.80, True), (2, 0.70, False), (3, 0.69, True)):
        write_weights("vqa", float(number))
        measure(accuracy, auc=0.93)
        assert register_models(settings)["register.blip-vqa.passed"] == passes
        if not passes:
            registry.promote("blip-vqa", number)


def test_a_champion_that_was_set_back_by_hand_is_promoted_by_hand_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, data in ((1, "emoji"), (2, "photos")):
        write_weights("vqa", float(number))
        measure(0.80, auc=0.93, data=data)
        register_models(settings)
    registry.promote("blip-vqa", 1)
    capsys.readouterr()

    assert register_models(settings)["register.blip-vqa.passed"] == 1.0
    said = " ".join(capsys.readouterr().out.split())
    assert "blip-vqa is not the champion, though it passes: another was promoted by hand" in said
    assert "`blip promote blip-vqa 2` makes it the champion all the same" in said
    assert "brings it back" not in said
    assert champion_of_vqa() == 1

    monkeypatch.setattr(packaging, "digest", lambda directory, task: "mended")
    assert register_models(settings)["register.blip-vqa.version"] == 3.0, "the same weights, served otherwise"
    assert champion_of_vqa() == 1

    registry.promote("blip-vqa", 3)
    register_models(settings)
    assert champion_of_vqa() == 3


@pytest.mark.parametrize("data", ["ours", "theirs"])
def test_weights_that_lost_their_place_do_not_get_it_back_by_a_run_that_trains_nothing(
    settings: Settings, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    for number, accuracy, of in ((1, 0.80, "ours"), (2, 0.815, data), (3, 0.78, data)):
        write_weights("vqa", float(number))
        measure(accuracy, auc=0.93, data=of)
        register_models(settings)
    before = aliases_of_vqa()
    assert before == {"champion": 2, "challenger": 3}

    write_weights("vqa", 1.0)  # an old branch
    measure(0.80, auc=0.93)
    capsys.readouterr()
    metrics = register_models(settings)
    assert (metrics["register.blip-vqa.passed"], metrics["register.blip-vqa.version"]) == (1.0, 1.0)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "blip-vqa is not the champion, though it passes: its weights were judged before, and now version 2 is"
        in said
    )
    assert "`blip promote blip-vqa 1` makes it the champion all the same" in said
    assert aliases_of_vqa() == before

    registry.promote("blip-vqa", 1)
    write_weights("vqa", 2.0)
    measure(0.815, auc=0.93, data=data)
    register_models(settings)
    assert champion_of_vqa() == 1


def test_weights_that_are_measured_anew_as_the_champion_was_are_a_candidate_again(settings: Settings) -> None:
    for number, accuracy, data in ((1, 0.80, "emoji"), (2, 0.70, "photos")):
        write_weights("vqa", float(number))
        measure(accuracy, auc=0.93, data=data)
        register_models(settings)
    write_weights("vqa", 1.0)
    measure(0.75, auc=0.93, data="drawings")
    register_models(settings)
    assert champion_of_vqa() == 2, "measured otherwise than the champion"
    measure(0.75, auc=0.93, data="photos")
    register_models(settings)
    assert champion_of_vqa() == 1


def test_a_version_whose_register_was_ended_before_it_was_judged_is_judged_by_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object, **named: object) -> None:
        raise SystemExit(143)

    measure(accuracy=0.80, auc=0.93)
    register_models(settings)
    write_weights("vqa", 2.0)
    measure(accuracy=0.82, auc=0.93)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "promote", killed)
        with pytest.raises(SystemExit):
            register_models(settings)
    assert champion_of_vqa() == 1
    register_models(settings)
    assert champion_of_vqa() == 2


def test_the_code_of_before_does_not_take_the_champion_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(accuracy=0.80, auc=0.93)
    for code, champion in (("old", 1), ("mended", 2), ("old", 2), ("mended", 2)):
        monkeypatch.setattr(packaging, "digest", lambda directory, task, code=code: code)
        register_models(settings)
        assert champion_of_vqa() == champion


def test_without_promote_models_are_registered_and_no_alias_changes(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    without = settings.model_copy(
        update={"register_": settings.register_.model_copy(update={"promote": False})}
    )
    measure(accuracy=0.80, auc=0.93)
    metrics = register_models(without)
    assert (metrics["register.blip-vqa.passed"], metrics["register.blip-vqa.version"]) == (1.0, 1.0)
    said = capsys.readouterr().out
    assert said.count("register.promote is false, so no champion changes; `blip promote NAME VERSION`") == 1
    assert "blip-vqa is not the champion" not in said and "`blip promote blip-vqa" not in said
    assert aliases_of_vqa() == {}
    register_models(settings)
    write_weights("vqa", 2.0)
    measure(accuracy=0.90, auc=0.93)
    register_models(without)
    assert aliases_of_vqa() == {"champion": 1}
    measure(accuracy=0.91, auc=0.93, data="otherwise")
    register_models(without)  # measured otherwise, and judged no more than before
    measure(accuracy=0.91, auc=0.93, data="otherwise")
    register_models(settings)
    assert aliases_of_vqa() == {"champion": 2}


def test_the_smoke_recipe_promotes_nothing() -> None:
    assert load_settings(PARAMS).register_.promote
    assert not load_settings(PARAMS, "smoke").register_.promote


def aliases_of_vqa() -> dict[str, int]:
    aliases = store.client().get_registered_model("blip-vqa").aliases
    return {alias: int(number) for alias, number in aliases.items()}


def champion_of_vqa() -> int:
    found = registry.champion("blip-vqa")
    assert found is not None
    return found.number


def test_a_champion_below_a_raised_gate_is_said_to_serve_still(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(accuracy=0.80, auc=0.93)
    register_models(settings)
    gate = settings.register_.model_copy(update={"gate": {"blip-vqa": {"vqa.accuracy": 0.99}}})
    capsys.readouterr()
    metrics = register_models(settings.model_copy(update={"register_": gate}))
    assert metrics == {"register.blip-vqa.passed": 0.0, "register.blip-vqa.version": 1.0}
    said = " ".join(capsys.readouterr().out.split())
    assert "blip-vqa is the champion still, though vqa.accuracy is 0.800, below the gate's 0.99" in said


def test_with_rounds_the_last_ones_model_is_judged_by_its_own_figures(settings: Settings) -> None:
    measure(accuracy=0.80, auc=0.75)
    write_weights("rounds/2/filter", 5.0)
    note("rounds", {"rounds.2.filter.roc_auc": 0.93}, "rounds/2/filter")
    twice = settings.model_copy(update={"capfilt": settings.capfilt.model_copy(update={"rounds": 2})})
    assert register_models(twice)["register.blip-filter.passed"] == 1.0
    champion = registry.champion("blip-filter")
    assert champion is not None
    assert champion.digest == registry.weights_digest(Path("models/rounds/2/filter"))
    assert champion.figures == {"filter.roc_auc": 0.93}


def test_a_version_carries_what_the_test_data_say_of_it_too_and_is_not_chosen_by_that(
    settings: Settings,
) -> None:
    gate = settings.register_.model_copy(
        update={"gate": {"blip-vqa": {"finetune.vqa.validation.accuracy": 0.6}}}
    )
    by_validation = settings.model_copy(update={"register_": gate})
    for number, (validation, test) in enumerate([(0.70, 0.80), (0.75, 0.71)], 1):
        write_weights("vqa", float(number))
        note("finetune_vqa", {"finetune.vqa.validation.accuracy": validation}, "vqa")
        note("evaluate_vqa", {"vqa.accuracy": test}, "vqa")
        assert register_models(by_validation)["register.blip-vqa.passed"] == 1.0
        champion = registry.champion("blip-vqa")
        assert champion is not None and champion.number == number
        assert champion.figures == {"finetune.vqa.validation.accuracy": validation, "vqa.accuracy": test}


def test_a_champion_of_figures_that_the_gate_names_no_more_gives_way_and_that_is_said(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(0.95, auc=0.93)
    register_models(settings)
    write_weights("vqa", 2.0)
    note("finetune_vqa", {"finetune.vqa.validation.accuracy": 0.61}, "vqa")
    gate = {"blip-vqa": {"finetune.vqa.validation.accuracy": 0.6}}
    renamed = settings.model_copy(update={"register_": settings.register_.model_copy(update={"gate": gate})})
    assert register_models(renamed)["register.blip-vqa.passed"] == 1.0
    said = " ".join(capsys.readouterr().out.split())
    assert "by other figures, so its finetune.vqa.validation.accuracy was not compared; `blip promote" in said


def test_a_version_has_no_figures_of_several_models_but_those_that_its_gate_names(settings: Settings) -> None:
    measure(0.80, auc=None)
    both = tuple(registry.weights_digest(Path("models", name)) for name in ("vqa", "filter"))
    joint = Scores.of({"filter.roc_auc": 0.93, "capfilt.validation_auc": 0.9}, Measured(both, "ours", ()))
    Path("metrics/capfilt.json").write_text(json.dumps(as_json(joint)))
    register_models(settings)
    figures = {name: champion.figures for name in GATE if (champion := registry.champion(name))}
    assert figures == {"blip-vqa": {"vqa.accuracy": 0.80}, "blip-filter": {"filter.roc_auc": 0.93}}


def test_files_that_their_store_cannot_take_are_said_with_the_way_out(settings: Settings) -> None:
    """Here for want of its library, boto3."""
    store.client().create_experiment("blip", "s3://bucket/runs")
    measure(0.80, auc=0.93)
    with pytest.raises(
        BlipError, match=r"does not take blip-vqa: No module named 'boto3'; .* --single-item register"
    ):
        register_models(settings)


def test_a_gate_for_a_model_nobody_makes_is_refused(settings: Settings) -> None:
    gate = settings.register_.model_copy(update={"gate": {"blip-vga": {"vqa.accuracy": 0.6}}})
    with pytest.raises(BadArguments, match="no model 'blip-vga'; the pipeline makes: blip-base"):
        register_models(settings.model_copy(update={"register_": gate}))


def test_a_champion_that_was_measured_on_other_data_gives_way_and_the_way_back_is_said(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    passed = []
    for number, (accuracy, data) in enumerate([(0.95, "emoji"), (0.65, "photos"), (0.62, "photos")], 1):
        write_weights("vqa", float(number))
        measure(accuracy, auc=0.93, data=data)
        passed.append(register_models(settings)["register.blip-vqa.passed"])
        if number == 2:
            said = " ".join(capsys.readouterr().out.split())
            assert "champion v2 │ vqa.accuracy │ 0.650 │ 0.6 │ not compared" in said
            assert (
                "blip-vqa: the champion before, version 1, was measured on other data or with other settings, or by "
                "other figures, so its vqa.accuracy was not compared; `blip promote blip-vqa 1` brings it back"
                in said
            )
    assert passed == [1.0, 1.0, 0.0], "the third is held against the second"
    champion = registry.champion("blip-vqa")
    assert champion is not None
    assert (champion.number, champion.best) == (2, {"vqa.accuracy": 0.65})


def test_a_champion_that_is_measured_on_harder_data_asks_what_it_reaches_there(settings: Settings) -> None:
    measure(0.95, auc=0.93)
    register_models(settings)
    measure(0.70, auc=0.93, data="harder")
    assert register_models(settings)["register.blip-vqa.passed"] == 1.0
    write_weights("vqa", 2.0)
    measure(0.72, auc=0.93, data="harder")
    assert register_models(settings) == {
        "register.blip-vqa.passed": 1.0,
        "register.blip-vqa.version": 2.0,
        "register.blip-filter.passed": 1.0,
        "register.blip-filter.version": 1.0,
    }


def test_a_model_with_the_figures_of_another_one_is_refused(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(0.80, auc=0.93)
    register_models(settings)
    write_weights("vqa", 2.0)  # trained again, not evaluated
    metrics = register_models(settings)
    assert (metrics["register.blip-vqa.passed"], metrics["register.blip-vqa.version"]) == (0.0, 0.0)
    said = " ".join(capsys.readouterr().out.split())
    assert "vqa.accuracy is measured on other weights: run `blip stage evaluate@vqa`" in said
    champion = registry.champion("blip-vqa")
    assert champion is not None and champion.number == 1


def test_figures_of_another_recipe_are_not_those_of_this_one(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(0.80, auc=0.93, settings=(("evaluate.vqa.data", "vqa_other"),))
    assert register_models(settings)["register.blip-vqa.version"] == 0.0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "measured with evaluate.vqa.data vqa_other, which is vqa_test now: run `blip stage evaluate@vqa`"
        in said
    )


def test_figures_that_nobody_says_of_which_weights_they_are_do_not_count(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(0.80, auc=0.93)
    Path("metrics/evaluate_vqa.json").write_text('{"vqa.accuracy": 0.8}')
    assert register_models(settings)["register.blip-vqa.passed"] == 0.0
    assert "vqa.accuracy is of no known weights" in " ".join(capsys.readouterr().out.split())


def test_as_good_as_the_champion_is_good_enough(settings: Settings) -> None:
    strict = settings.register_.model_copy(update={"tolerance": 0.0})
    for number in (1, 2):
        write_weights("vqa", float(number))
        measure(2 / 3, auc=0.93)
        metrics = register_models(settings.model_copy(update={"register_": strict}))
        assert (metrics["register.blip-vqa.passed"], metrics["register.blip-vqa.version"]) == (1.0, number)


def test_a_version_names_the_run_that_trained_it_and_no_other(settings: Settings) -> None:
    with stage_run("finetune@vqa", settings) as trained:
        trained.note(Scores.of({"a": 1.0}, Measured((registry.weights_digest(Path("models/vqa")),), "", ())))
        trained.tag_weights()
        trained.set_tags({"blip.git_commit": "of the training"})
    with stage_run("filter", settings):
        pass
    measure(0.80, auc=0.93)
    register_models(settings)
    vqa = store.client().get_model_version("blip-vqa", "1").tags
    assert (vqa["blip.training_run"], vqa["blip.git_commit"]) == (trained.run_id, "of the training")
    judge = store.client().get_model_version("blip-filter", "1").tags
    assert not {"blip.training_run", "blip.git_commit"} & judge.keys()

"""params.yaml and the recipes over it become checked, frozen settings; mistakes are named with the way out."""

import io
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from blip.config import load_settings, read_override
from blip.config.data import Ingest
from blip.config.sections import POSITIONS, Register
from blip.data.pairs import PairsWriter, Sample
from blip.errors import BadArguments
from blip.model.text import TextConfig

ROOT = Path(__file__).parents[1]
PARAMS = ROOT / "params.yaml"
RECIPES = sorted(path.stem for path in (ROOT / "infra/recipes").glob("*.yaml"))
PHOTOS = {"source": "photos", "kind": "table", "origin": "human", "role": "train"}
PUBLISHED = ("base-14m", "base-129m", "large-129m", "capfilt-large")


def test_the_demos_settings_are_valid():
    settings = load_settings(PARAMS)

    assert settings.recipe is None
    assert settings.pretrain.steps == settings.pretrain_bootstrapped.steps


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(PARAMS).seed = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid(recipe: str):
    assert load_settings(PARAMS, recipe).recipe == recipe


def test_base_14m_has_the_papers_numbers():
    settings = load_settings(PARAMS, "base-14m")
    run, retrieval, vqa = settings.pretrain, settings.finetune.retrieval, settings.finetune.vqa

    assert run.training.ranks * run.training.batch_size == 2880
    assert (run.epochs, run.steps) == (20, None)
    assert (run.optimiser.name, run.optimiser.lr, run.optimiser.warmup) == ("adamw", 3e-4, 3000)
    assert (run.optimiser.warmup_lr, run.optimiser.decay, run.optimiser.weight_decay) == (1e-6, 0.9, 0.05)
    assert (run.objective.queue, run.objective.momentum, run.objective.alpha) == (57600, 0.995, 0.4)
    assert (run.training.crop_scale, run.training.randaugment) == ((0.2, 1.0), True)
    assert (settings.model.image_size, settings.model.vision.width, settings.model.text.layers) == (
        224,
        768,
        12,
    )
    assert retrieval.training.ranks * retrieval.training.batch_size == 256
    assert (retrieval.epochs, retrieval.optimiser.lr, retrieval.optimiser.schedule) == (
        6,
        1e-5,
        "epoch_cosine",
    )
    assert retrieval.model and (retrieval.model.image_size, retrieval.model.text.max_tokens) == (384, 35)
    assert vqa.model and (vqa.model.image_size, vqa.optimiser.lr) == (480, 2e-5)
    assert settings.finetune.captioning.objective.prompt == "a picture of "
    assert settings.capfilt.top_p == 0.9


def test_large_129m_is_the_large_network():
    settings = load_settings(PARAMS, "large-129m")

    assert (settings.model.vision.width, settings.model.vision.layers, settings.model.vision.heads) == (
        1024,
        24,
        16,
    )
    assert settings.pretrain.training.ranks * settings.pretrain.training.batch_size == 2400
    assert settings.pretrain.optimiser.lr == 2e-4
    assert settings.finetune.retrieval.optimiser.lr == 5e-6
    assert settings.finetune.captioning.optimiser.lr == 2e-6


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_nothing_of_the_demos_own_choices_reaches_the_published_recipes(recipe: str):
    settings = load_settings(PARAMS, recipe)
    tuned = settings.finetune
    runs = (settings.pretrain, settings.captioner, settings.filter, settings.pretrain_bootstrapped)
    for run in filter(None, (*runs, tuned.retrieval, tuned.captioning, tuned.vqa)):
        assert (run.optimiser.vision_lr, run.optimiser.clip, run.training.threads) == (1.0, 0.0, None)
        assert run.training.randaugment and run.objective.captions == "any"
    assert (settings.capfilt.head, settings.capfilt.threshold) == ("itm", 0.5)
    assert (settings.capfilt.repetition_penalty, settings.capfilt.drop_repeats) == (1.1, False)
    assert settings.evaluate.retrieval.rerank_by == settings.evaluate.video.rerank_by == "published"


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_negatives_are_the_published_ones_in_pre_training_and_in_fine_tuning(recipe: str):
    settings = load_settings(PARAMS, recipe)
    for run in (settings.pretrain, settings.pretrain_bootstrapped):
        assert (run.objective.negative_floor, run.objective.itm_negatives) == (1e-4, "local")
    for run in (settings.filter, settings.finetune.retrieval):
        assert (run.objective.negative_floor, run.objective.itm_negatives) == (0.0, "global")
        assert run.objective.positives == "image"


@pytest.mark.parametrize("recipe", [None, *RECIPES])
def test_what_goes_beyond_the_paper_is_off(recipe: str | None):
    settings = load_settings(PARAMS, recipe)
    tuned = settings.finetune
    runs = (settings.pretrain, settings.captioner, settings.filter, settings.pretrain_bootstrapped)
    for run in filter(None, (*runs, tuned.retrieval, tuned.captioning, tuned.vqa)):
        objective = run.objective
        assert (objective.contrast, objective.itc_keys, objective.captions_per_image) == (
            "softmax",
            "local",
            1,
        )
        assert (run.model or settings.model).vision.patch_dropout == 0
        assert recipe in (None, "smoke", "own-data") or not run.distractors
    assert recipe in (None, "smoke", "own-data") or settings.capfilt.views == (1.0,)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pretrain.objective.contrast", "siglip", "'softmax' or 'sigmoid'"),
        ("pretrain.objective.itc_keys", "all", "'local' or 'global'"),
        ("pretrain.objective.captions_per_image", 0, "greater than or equal to 1"),
        ("model.vision.patch_dropout", 1.0, "less than 1"),
        ("filter.members", 0, "greater than or equal to 1"),
        ("capfilt.views", [1.5], "less than or equal to 1"),
        ("pretrain.data", [], "at least 1 item"),
        ("pretrain.data", {}, "at least 1 item"),
        ("pretrain.data", {"human": 0.0}, "greater than 0"),
        ("pretrain.training.workers", -1, "greater than or equal to 0"),
        ("pretrain.objective.caption_weights", {"web": -1.0}, "greater than or equal to 0"),
        ("pretrain.objective.caption_weights", {"machine": 1.0}, "'human', 'web' or 'synthetic'"),
        ("evaluate.classification.templates", ["{}", "a picture"], r"'a picture' has no \{\}"),
    ],
)
def test_an_option_that_there_is_not_is_refused(name: str, value: object, message: str):
    with pytest.raises(BadArguments, match=f"{name}.*{message}"):
        load_settings(PARAMS, overrides={name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.vision.layers", -1, r"model\.vision\.layers: .*greater than or equal to 1"),
        ("model.vision.heads", 0, r"model\.vision\.heads: .*greater than or equal to 1"),
        ("model.text.width", 0, r"model\.text\.width: .*greater than or equal to 1"),
        ("model.patch_size", 0, r"model\.patch_size: .*greater than or equal to 1"),
        ("model.image_size", -48, r"model\.image_size: .*greater than or equal to 1"),
        ("model.projection", 0, r"model\.projection: .*greater than or equal to 1"),
        ("model.text.max_tokens", 2, r"model\.text\.max_tokens: .*greater than or equal to 3"),
        ("model.vision.drop_path", 2, r"model\.vision\.drop_path: .*less than 1"),
        ("model.vision.drop_path", -0.1, r"model\.vision\.drop_path: .*greater than or equal to 0"),
        ("model.text.dropout", 5, r"model\.text\.dropout: .*less than 1"),
        ("model.vision.heads", 7, r"model\.vision: width 128 is not a multiple of 7 heads"),
        ("model.text.heads", 3, r"model\.text: width 128 is not a multiple of 3 heads"),
        ("model.image_size", 50, r"model: image_size 50 is no multiple of patch_size 8"),
    ],
)
def test_sizes_that_no_network_has_are_refused(name: str, value: object, message: str):
    with pytest.raises(BadArguments, match=message):
        load_settings(PARAMS, overrides={name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("finetune.vqa.distractors", ["web"], "finetune: .*vqa .* takes no distractors"),
        ("filter.objective.itm_negatives", "global", "filter: .*they need itm_negatives: local"),
    ],
)
def test_distractors_are_refused_where_they_would_do_nothing(name: str, value: object, message: str):
    with pytest.raises(BadArguments, match=message):
        load_settings(PARAMS, overrides={name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pretrain.data": ["human", "web", "test"]},
            r"pretrain learns from test, role: evaluation in ingest",
        ),
        ({"finetune.vqa.data": {"vqa_train": 1.0, "vqa_test": 0.5}}, r"finetune\.vqa learns from vqa_test"),
        ({"filter.distractors": ["validation"]}, r"filter learns from validation"),
        ({"capfilt.human": "test"}, r"capfilt learns from test"),
        (
            {"evaluate.retrieval.data": "human"},
            r"evaluate\.retrieval measures on human, role: train in ingest",
        ),
        ({"validation.captioning.data": "human"}, r"validation\.captioning measures on human"),
        ({"capfilt.held_out": "web"}, r"capfilt\.held_out measures on web"),
    ],
)
def test_what_is_learnt_is_not_measured_on(changes: dict[str, object], message: str):
    with pytest.raises(BadArguments, match=message):
        load_settings(PARAMS, overrides=changes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("capfilt.held_out", "vaildation", r"capfilt reads 'vaildation', .*; did you mean 'validation'\?"),
        ("capfilt.web", "wbe", r"capfilt reads 'wbe', .*; did you mean 'web'\?"),
        ("evaluate.retrieval.data", "tset", r"evaluate\.retrieval reads 'tset', .*; did you mean 'test'\?"),
        (
            "validation.vqa.train",
            "vqa_trian",
            r"finetune\.vqa reads 'vqa_trian', .*did you mean 'vqa_train'\?",
        ),
        ("filter.distractors", ["wbe"], r"filter reads 'wbe'"),
        ("pretrain.data", ["humann"], r"pretrain reads 'humann', .*; did you mean 'human'\?"),
        ("captioner.data", ["mine"], r"captioner reads 'mine', .*; there are human, web, .*, bootstrapped"),
    ],
)
def test_a_dataset_that_nothing_makes_is_named_with_the_nearest_one(name: str, value: object, message: str):
    settings = load_settings(PARAMS, overrides={name: value})
    with pytest.raises(BadArguments, match=message):
        settings.require_data()


def test_what_no_stage_that_runs_reads_is_not_asked():
    settings = load_settings(PARAMS, overrides={"pretrain.data": ["humann"], "evaluate.vqa.data": "vqa_tset"})
    settings.require_data(lambda stage: stage == "captioner")
    with pytest.raises(BadArguments, match="pretrain reads 'humann'"):
        settings.require_data(lambda stage: stage == "pretrain")
    with pytest.raises(BadArguments, match=r"evaluate\.vqa reads 'vqa_tset'"):
        settings.require_data(lambda stage: stage == "evaluate@vqa")


def test_a_dataset_on_the_disk_is_one_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save(picture := io.BytesIO(), "PNG")
    with PairsWriter(Path("data/datasets/mine"), samples_per_shard=8, parents=[], parameters={}) as writer:
        writer.add(Sample("a", picture.getvalue(), "png", (), (), 32, 32))
    changes = {"captioner.data": ["mine"], "finetune.retrieval.data": ["rounds/2"], "capfilt.rounds": 2}
    load_settings(PARAMS, overrides=changes).require_data()
    with pytest.raises(BadArguments, match=r"finetune\.retrieval reads 'rounds/2'"):
        load_settings(PARAMS, overrides=changes | {"capfilt.rounds": 1}).require_data()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("momentum", 95, "less than 1"),
        ("betas", [9, 99], "less than 1"),
        ("weight_decay", -1, "greater than or equal to 0"),
        ("warmup", -1, "greater than or equal to 0"),
        ("warmup", float("nan"), "finite number"),
        ("lr", float("inf"), "finite number"),
        ("warmup_lr", -5, "greater than or equal to 0"),
        ("final_lr", -1, "greater than or equal to 0"),
        ("decay", 90, "less than or equal to 1"),
        ("final_lr", 10, r"final_lr 10 is above lr 0\.01"),
        ("warmup_lr", 1, r"warmup_lr 1 is above lr 0\.01"),
    ],
)
def test_rates_that_no_optimiser_takes_are_refused(name: str, value: object, message: str):
    with pytest.raises(BadArguments, match=rf"pretrain\.optimiser.*{message}"):
        load_settings(PARAMS, overrides={f"pretrain.optimiser.{name}": value})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([30, 1], r"validate: caption_words: \[30, 1\] is the wrong way round"),
        ([1, -1], r"validate\.caption_words\.1: .*greater than or equal to 0"),
    ],
)
def test_words_that_no_caption_has_are_refused(words: list[int], message: str):
    with pytest.raises(BadArguments, match=message):
        load_settings(PARAMS, overrides={"validate.caption_words": words})


@pytest.mark.parametrize("section", ["evaluate.captioning", "validation.captioning", "capfilt"])
def test_a_caption_has_no_more_tokens_than_there_are_positions(section: str):
    assert TextConfig(1000).max_positions == POSITIONS
    with pytest.raises(BadArguments, match=rf"{section}: max_tokens 513 is above the 512 positions"):
        load_settings(PARAMS, overrides={f"{section}.max_tokens": 513})
    load_settings(PARAMS, overrides={f"{section}.max_tokens": 512})


@pytest.mark.parametrize("network", ["10.1", "10.1.0.1/16", "inside"])
def test_what_is_no_network_is_refused(network: str):
    named = rf"ingest\.download\.networks\.0: .*{network}.*; write 10\.1\.0\.0/16 or 127\.0\.0\.1"
    with pytest.raises(BadArguments, match=named):
        load_settings(PARAMS, overrides={"ingest.download.networks": [network]})
    allowed = load_settings(PARAMS, overrides={"ingest.download.networks": ["10.1.0.0/16", "::1"]})
    assert allowed.ingest.download.networks == ("10.1.0.0/16", "::1")


@pytest.mark.parametrize(
    "name",
    [
        *("ingest.datasets.human.source", "ingest.datasets.human.images", "ingest.vocabulary.file"),
        *("model.start", "model.text_start", "launch.hostfile"),
    ],
)
@pytest.mark.parametrize(("path", "message"), [("~/x", "'~/x': only a shell reads ~"), ("", "it is empty")])
def test_a_path_is_one_that_can_be_opened(name: str, path: str, message: str):
    with pytest.raises(BadArguments, match=rf"{name}: {message}"):
        load_settings(PARAMS, overrides={name: path})


@pytest.mark.parametrize("run", ["pretrain", "captioner", "finetune.captioning"])
def test_a_run_without_a_loss_is_refused(run: str):
    none = {f"{run}.objective.{loss}": 0.0 for loss in ("itc", "itm", "lm")}
    with pytest.raises(BadArguments, match=rf"{run}\.objective: itc, itm and lm are 0, .* give one a weight"):
        load_settings(PARAMS, overrides=none)


def test_answers_have_a_loss_of_their_own():
    none = {f"finetune.vqa.objective.{loss}": 0.0 for loss in ("itc", "itm", "lm")}
    assert load_settings(PARAMS, overrides=none).finetune.vqa


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ([70, 100], r"pretrain\.training\.crop_scale\.0: .*less than or equal to 1"),
        ([-1, 1], r"pretrain\.training\.crop_scale\.0: .*greater than 0"),
        ([1.0, 0.7], r"pretrain\.training: crop_scale: \[1, 0\.7\] is the wrong way round"),
    ],
)
def test_a_crop_is_a_share_of_the_picture(scale: list[float], message: str):
    with pytest.raises(BadArguments, match=message):
        load_settings(PARAMS, overrides={"pretrain.training.crop_scale": scale})


def test_data_are_a_list_or_a_mixture_with_weights():
    assert load_settings(PARAMS).pretrain.mixture == [("human", 1.0), ("web", 1.0)]
    mixed = load_settings(PARAMS, overrides={"pretrain.data": {"web": 0.2, "human": 2}})
    assert mixed.pretrain.mixture == [("web", 0.2), ("human", 2.0)]


def test_a_recipes_mixture_takes_the_place_of_the_one_below(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("pretrain: {data: {human: 0.5}}\n")
    below = {"pretrain.data": {"web": 1.0}}
    assert load_settings(PARAMS, str(tmp_path / "mine.yaml")).pretrain.mixture == [("human", 0.5)]
    assert load_settings(PARAMS, str(tmp_path / "mine.yaml"), below).pretrain.mixture == [("web", 1.0)]


def test_weights_of_captions_need_a_draw():
    weights = {"captioner.objective.caption_weights": {"web": 0.5}}
    with pytest.raises(BadArguments, match=r"captioner\.objective.*with captions: shortest nothing is drawn"):
        load_settings(PARAMS, overrides=weights)
    weights = {"pretrain.objective.caption_weights": {"web": 0.5}}
    assert load_settings(PARAMS, overrides=weights).pretrain.objective.caption_weights == {"web": 0.5}


def test_a_recipe_can_be_a_file_anywhere(tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("pretrain: {steps: 5}")

    assert load_settings(PARAMS, str(recipe)).pretrain.steps == 5


def test_a_recipe_in_epochs_drops_the_steps_below_it(tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("pretrain: {epochs: 2}")

    run = load_settings(PARAMS, str(recipe)).pretrain
    assert (run.epochs, run.steps) == (2, None)


def test_none_lays_no_recipe_over_the_settings(tmp_path: Path):
    (tmp_path / "params.yaml").write_text(PARAMS.read_text().replace("recipe: null", "recipe: smoke"))

    assert load_settings(tmp_path / "params.yaml", "none") == load_settings(PARAMS)


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(
        BadArguments, match=r"unknown recipe 'base-15m'; infra/recipes has: base-129m, base-14m, .*smoke"
    ):
        load_settings(PARAMS, "base-15m")


def test_an_override_changes_the_run_it_names_and_no_other():
    settings = load_settings(PARAMS, overrides={"pretrain.training.batch_size": 8})

    assert settings.pretrain.training.batch_size == 8
    assert (
        settings.pretrain_bootstrapped.training.batch_size
        == load_settings(PARAMS).pretrain.training.batch_size
    )


def test_a_recipe_among_the_overrides_is_refused_for_it_would_be_a_name_alone():
    with pytest.raises(
        BadArguments, match=r"^recipe is no setting to lay over others, .* give it as --recipe"
    ):
        load_settings(PARAMS, overrides={"recipe": "base-14m", "pretrain.steps": 3})


@pytest.mark.parametrize("name", ["cc3m+sbu", "cc3m(2)", "a/b", "../up", ".hidden", "a,b"])
def test_what_is_no_name_of_a_folder_or_of_mlflows_is_none_of_a_dataset(name: str):
    with pytest.raises(ValidationError, match="cannot be the name of a dataset"):
        Ingest.model_validate({"datasets": {name: PHOTOS}})


def test_datasets_may_have_names_of_several_words():
    assert (
        len(Ingest.model_validate({"datasets": {"photos of 2024-v1.5": PHOTOS, "größer": PHOTOS}}).datasets)
        == 2
    )


def test_an_unknown_setting_is_named_with_the_nearest_one():
    with pytest.raises(BadArguments, match=r"capfilt\.topp: no such setting; did you mean 'top_p'\?"):
        load_settings(PARAMS, overrides={"capfilt.topp": 0.5})


def test_a_value_that_cannot_be_is_named_with_what_was_given():
    with pytest.raises(BadArguments, match=r"capfilt\.top_p: .*less than or equal to 1 \(got 1\.5\)"):
        load_settings(PARAMS, overrides={"capfilt.top_p": 1.5})


def test_all_mistakes_are_named_at_once():
    with pytest.raises(BadArguments, match=r"2 setting\(s\) cannot be used") as caught:
        load_settings(PARAMS, overrides={"capfilt.top_p": 1.5, "seeds": 1})
    assert "did you mean 'seed'" in str(caught.value)


def test_a_shared_block_is_no_setting():
    with pytest.raises(BadArguments, match=r"training\.batch_size: a block that several runs share"):
        load_settings(PARAMS, overrides={"training.batch_size": 8})


def test_a_name_below_a_value_is_refused():
    with pytest.raises(BadArguments, match=r"seed is not a section"):
        load_settings(PARAMS, overrides={"seed.value": 8})


def test_a_folder_without_params_says_where_to_go(tmp_path: Path):
    with pytest.raises(BadArguments, match=r"no such file; run from the project's folder"):
        load_settings(tmp_path / "params.yaml")


def test_broken_yaml_is_named_with_the_line(tmp_path: Path):
    (tmp_path / "params.yaml").write_text("seed: 1\nmodel: {a: [1\n")

    with pytest.raises(BadArguments, match=r"not valid YAML(.|\n)*line 3"):
        load_settings(tmp_path / "params.yaml")


def test_a_conflict_that_git_left_is_named(tmp_path: Path):
    sides = "<<<<<<< Updated upstream\nrecipe: null\n=======\nrecipe: smoke\n>>>>>>> Stashed changes\n"
    (tmp_path / "params.yaml").write_text(f"seed: 1\n{sides}")

    with pytest.raises(BadArguments, match=r"params\.yaml: has a conflict of git, from line 2 on"):
        load_settings(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=3", 3),
        ("a.b=1e-4", 1e-4),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b=null", None),
        ("a.b=", None),
        ("a.b=x=y", "x=y"),
    ],
)
def test_an_override_is_read_as_yaml(text: str, value: object):
    assert read_override(text) == ("a.b", value)


@pytest.mark.parametrize("text", ["a.b", "=3", ""])
def test_an_override_without_name_or_value_is_refused(text: str):
    with pytest.raises(BadArguments, match="NAME=VALUE"):
        read_override(text)


def test_a_figure_that_is_no_share_has_a_tolerance_of_its_own() -> None:
    values = {"gate": {}, "tolerances": {"cider": 0.1, "captioner.validation.cider": 0.2, "itc.i2t_r1": 0.03}}
    register = Register.model_validate(values)
    figures = ("finetune.captioning.validation.cider", "captioner.validation.cider", "a.validation.i2t_r1")
    assert [register.tolerance_of(figure) for figure in figures] == [0.1, 0.2, 0.02]
    assert register.tolerance_of("a.validation.itc.i2t_r1") == 0.03
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Register.model_validate({"gate": {}, "tolerances": {"cider": -1}})

"""The recipes have the paper's numbers (arXiv 2201.12086, sections 4 and 5, appendix), each run of them."""

import json
from pathlib import Path

import pytest
import yaml

from blip.config import Run, Settings, load_settings
from blip.config.sections import COMPARED
from blip.errors import BadArguments
from blip.ingest.sources import read
from flows.parameters import write_parameters

PARAMS = Path(__file__).parents[1] / "params.yaml"
RECIPES = PARAMS.parent / "infra/recipes"
BASE, LARGE = 768, 1024  # widths of the image encoders
FULL_SCALE = (
    "base-14m", "base-129m", "large-129m", "capfilt-large", "retrieval-flickr", "captioning-nocaps", "nlvr2",
    "visdial", "bootstrapped-14m",
)  # fmt: skip


def of(recipe: str) -> Settings:
    return load_settings(PARAMS, recipe)


def batch(run: Run) -> int:
    """Pairs, or questions, of a step."""
    return (
        run.objective.questions_per_image
        * run.training.ranks
        * run.training.batch_size
        * run.training.accumulate
    )


def numbers(run: Run, settings: Settings) -> tuple[int, float, int, float | None, int]:
    """Width of the image encoder, learning rate, batch, epochs, pixels."""
    model = run.model or settings.model
    assert run.optimiser.adam_lr == run.optimiser.lr
    return model.vision.width, run.optimiser.lr, batch(run), run.epochs, model.image_size


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_both_pre_trainings_make_embeddings_to_be_compared_by(recipe: str):
    settings = of(recipe)
    settings.require_embeddings()
    assert settings.model.starts_whole or all(settings.runs[name].objective.itc for name in COMPARED)


@pytest.mark.parametrize("recipe", FULL_SCALE)
def test_the_weights_of_the_last_step_are_saved(recipe: str):
    settings = of(recipe)
    tasks = [run for _, run in settings.finetune if isinstance(run, Run)]
    assert len(tasks) >= 3
    runs = [settings.pretrain, settings.captioner, settings.filter, settings.pretrain_bootstrapped, *tasks]
    assert {run.training.average for run in runs} == {0.0}


@pytest.mark.parametrize(
    ("recipe", "width", "rate", "size", "bootstrapped"),
    [
        ("base-14m", BASE, 3e-4, 2880, BASE),
        ("base-129m", BASE, 3e-4, 2880, BASE),
        ("large-129m", LARGE, 2e-4, 2400, LARGE),
        ("capfilt-large", LARGE, 2e-4, 2400, BASE),
        ("one-gpu-14m", BASE, 3e-4, 2880, BASE),
    ],
)
def test_pre_training_is_the_papers(recipe: str, width: int, rate: float, size: int, bootstrapped: int):
    settings = of(recipe)
    assert numbers(settings.pretrain, settings) == (width, rate, size, 20, 224)
    again = (BASE, 3e-4, 2880) if bootstrapped == BASE else (LARGE, 2e-4, 2400)
    assert numbers(settings.pretrain_bootstrapped, settings) == (*again, 20, 224)
    for run in (settings.pretrain, settings.pretrain_bootstrapped):
        optimiser, objective = run.optimiser, run.objective
        assert (optimiser.name, optimiser.schedule, optimiser.decay) == ("adamw", "epoch_decay", 0.9)
        assert (optimiser.warmup, optimiser.warmup_lr, optimiser.final_lr) == (3000, 1e-6, 1e-6)
        assert (optimiser.weight_decay, optimiser.decay_all) == (0.05, True)
        assert (objective.queue, objective.momentum, objective.alpha) == (57600, 0.995, 0.4)
        assert objective.alpha_ramp * 20 == 2
        assert run.training.crop_scale == (0.2, 1.0)


@pytest.mark.parametrize(
    ("recipe", "task", "width", "rate", "epochs", "pixels"),
    [
        ("base-14m", "retrieval", BASE, 1e-5, 6, 384),
        ("base-129m", "retrieval", BASE, 1e-5, 6, 384),
        ("capfilt-large", "retrieval", BASE, 1e-5, 6, 384),
        ("large-129m", "retrieval", LARGE, 5e-6, 6, 384),
        ("retrieval-flickr", "retrieval", BASE, 1e-5, 6, 384),
        ("base-14m", "captioning", BASE, 1e-5, 5, 384),
        ("capfilt-large", "captioning", BASE, 1e-5, 5, 384),
        ("large-129m", "captioning", LARGE, 2e-6, 5, 384),
        ("base-14m", "vqa", BASE, 2e-5, 13.3, 480),
        ("capfilt-large", "vqa", BASE, 2e-5, 13.3, 480),
        ("one-gpu-14m", "retrieval", BASE, 1e-5, 6, 384),
        ("one-gpu-14m", "captioning", BASE, 1e-5, 5, 384),
        ("one-gpu-14m", "vqa", BASE, 2e-5, 13.3, 480),
    ],
)
def test_fine_tuning_is_the_papers(
    recipe: str, task: str, width: int, rate: float, epochs: float, pixels: int
):
    settings = of(recipe)
    run: Run = getattr(settings.finetune, task)
    assert numbers(run, settings) == (width, rate, 256, epochs, pixels)
    assert (run.optimiser.schedule, run.optimiser.warmup, run.optimiser.final_lr) == ("epoch_cosine", 0, 0.0)
    assert (run.optimiser.weight_decay, run.optimiser.decay_all) == (0.05, True)
    assert run.training.crop_scale == (0.5, 1.0)


@pytest.mark.parametrize(
    ("recipe", "width"),
    [("base-14m", BASE), ("base-129m", BASE), ("large-129m", LARGE), ("capfilt-large", LARGE)],
)
def test_captioner_and_filter_are_fine_tuned_as_for_the_tasks(recipe: str, width: int):
    settings = of(recipe)
    captioner, judge = (2e-6, 5e-6) if width == LARGE else (1e-5, 1e-5)
    assert numbers(settings.captioner, settings) == (width, captioner, 256, 5, 384)
    assert numbers(settings.filter, settings) == (width, judge, 256, 6, 384)
    assert (settings.filter.members, settings.filter.distractors) == (1, [])


# Karpathy's training part with what was left for validation
COCO = {"pictures": 113_287, "captions": 566_747}


@pytest.mark.parametrize("recipe", ["base-14m", "base-129m", "large-129m", "capfilt-large", "one-gpu-14m"])
def test_an_epoch_of_fine_tuning_is_every_caption_of_coco(recipe: str):
    settings = of(recipe)
    for run, epochs in (
        (settings.captioner, 5),
        (settings.filter, 6),
        (settings.finetune.captioning, 5),
        (settings.finetune.retrieval, 6),
    ):
        ((name, weight),) = run.mixture
        assert (name, run.epochs) == ("human", epochs)
        assert weight * COCO["pictures"] == pytest.approx(COCO["captions"], rel=0.001)
    assert settings.ingest.datasets["regions"].role == "train"


def test_an_epoch_of_pre_training_is_every_text_of_14m():
    settings, web = of("base-14m"), 860_000 + 3_000_000 + 10_000_000
    before, after = dict(settings.pretrain.mixture), dict(settings.pretrain_bootstrapped.mixture)
    people = before["human"] * COCO["pictures"] + before["regions"] * 100_000
    assert before["web"] * web + people == pytest.approx(15.3e6, rel=0.005)
    assert (before["regions"], after["regions"]) == (8.2, 8.2)
    told = [PARAMS.parent / name for name in ("README.md", "docs/training.md", "blip/doctor/numbers.py")]
    assert all("--samples 15.3e6" in path.read_text(encoding="utf-8") for path in told)
    bootstrapped = after["bootstrapped"] * (web + COCO["pictures"])
    assert bootstrapped + after["human"] * COCO["pictures"] + 820_000 == pytest.approx(24.7e6, rel=0.005)
    assert after["human"] + after["bootstrapped"] == pytest.approx(before["human"], rel=0.005)


def test_the_published_files_are_read_where_the_paper_s_recipe_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In their form, a picture of each."""
    sources = of("base-14m").ingest.datasets
    coco = "val2014/COCO_val2014_000000000042.jpg"
    row = {"caption": "a shoe rack", "image": coco, "image_id": "coco_42"}
    told = {
        "human": json.dumps([row, row | {"caption": "some shoes"}]),
        "validation": json.dumps([{"image": coco, "caption": ["a shoe rack", "some shoes"]}]),
        "test": json.dumps([{"image": coco, "caption": ["a shoe rack", "some shoes"]}]),
        "regions": json.dumps([{"image": "VG_100K/2.jpg", "caption": text} for text in ("a wall", "a road")]),
        "video": "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person is connecting something\n",
    }
    for name, text in told.items():
        (tmp_path / sources[name].source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / sources[name].source).write_text(text)
    for picture in (f"coco/{coco}", "vg/VG_100K/2.jpg", "video/video9770.mp4"):
        (tmp_path / "data/full" / picture).parent.mkdir(exist_ok=True)
        (tmp_path / "data/full" / picture).write_bytes(b"picture")
    monkeypatch.chdir(tmp_path)
    found = {name: list(read([sources[name]])) for name in told}
    assert {name: [len(item.captions) for item in items] for name, items in found.items()} == {
        name: [1] if name == "video" else [2] for name in told
    }


def test_published_captions_are_a_dataset_of_each_list():
    settings = of("bootstrapped-14m")
    assert dict(settings.pretrain_bootstrapped.mixture) == dict.fromkeys(("web", "synthetic"), 1.0) | {
        "human": 5.0,
        "regions": 8.2,
    }
    assert {
        name: (source.kind, source.origin)
        for name, source in settings.ingest.datasets.items()
        if name in ("web", "synthetic")
    } == {"web": ("urls", "web"), "synthetic": ("urls", "synthetic")}
    assert settings.ingest.kept_from("synthetic") == settings.ingest.kept_from("web")


def test_vqa_sees_every_question_ten_times():
    run = of("base-14m").finetune.vqa
    questions_of_an_image = (443_757 + 214_354) / (82_783 + 40_504)  # VQA v2, train and validation
    assert (
        run.epochs
        and run.epochs * run.objective.questions_per_image / questions_of_an_image
        == pytest.approx(10, rel=0.01)
    )
    weights, questions_of_genome = dict(run.mixture), 15
    assert weights["vqa_train"] == 1.0
    assert weights["vqa_genome"] * questions_of_an_image / questions_of_genome == pytest.approx(1.0, rel=0.01)


def test_nlvr2_sees_every_statement_fifteen_times():
    settings = of("nlvr2")
    run, evaluate = settings.finetune.nlvr, settings.evaluate.nlvr
    assert run and run.steps and evaluate
    assert run.steps * batch(run) / 86_373 == pytest.approx(15, rel=0.001)  # statements of its training part
    assert numbers(run, settings) == (BASE, 3e-5, 256, None, 384)
    assert run.model and run.model.vision.drop_path == 0.1
    assert {evaluate.data, evaluate.validation, *dict(run.mixture)} <= set(settings.ingest.datasets)


def test_questions_and_dialogs_keep_the_pictures_of_cocos_test():
    """VQA and VisDial are about COCO's pictures, 10,000 of which are Karpathy's validation and test."""
    settings = of("visdial")
    assert settings.ingest.kept_from("vqa_train") == ("vqa_validation", "vqa_test")
    assert settings.ingest.kept_from("visdial") == ("visdial_validation",)
    assert settings.ingest.kept_from("human") == ("validation", "test", "video")
    assert set(settings.ingest.kept_from("web")) >= {"validation", "test", "vqa_test", "video"}


@pytest.mark.parametrize("recipe", ["nlvr2", "visdial", "retrieval-flickr", "captioning-nocaps"])
def test_evaluation_datasets_more_make_none_of_the_pre_trainings_anew(recipe: str):
    base, more = of("base-14m").ingest, of(recipe).ingest
    assert more.datasets.keys() > base.datasets.keys()
    for name, source in base.datasets.items():
        assert (more.datasets[name], more.kept_from(name)) == (source, base.kept_from(name))
    assert set(base.kept_from("web")) == {"validation", "test", "vqa_validation", "vqa_test", "video"}


def test_pictures_without_a_class_are_not_classified():
    """COCO's have captions, and evaluate@classification takes the first of a picture for its class."""
    assert of("base-14m").evaluate.classification is None


def test_visdial_is_the_papers():
    settings = of("visdial")
    run, evaluate = settings.finetune.visdial, settings.evaluate.visdial
    assert run and evaluate
    assert numbers(run, settings) == (BASE, 2e-5, 240, 20, 384)
    assert {evaluate.data, evaluate.validation, *dict(run.mixture)} <= set(settings.ingest.datasets)


@pytest.mark.parametrize("recipe", FULL_SCALE)
def test_a_new_network_starts_from_imagenet_and_bert_and_fine_tuning_from_what_was_learnt(recipe: str):
    settings = of(recipe)
    for model in (settings.model, settings.pretrain_bootstrapped.model or settings.model):
        large = model.vision.width == LARGE
        assert model.start and ("vit_large" if large else "deit_base") in model.start
        assert model.text_start and "bert-base-uncased" in model.text_start
    assert settings.pretrain.objective.temperature == 0.07
    assert settings.pretrain.objective.negatives_by == "keys"
    for run in (settings.filter, settings.finetune.retrieval):
        assert (run.objective.temperature, run.objective.negatives_by) == (None, "features")
    assert settings.validate_.caption_words[1] > 1000, "long captions are cut, not left out"


def test_what_each_task_is_trained_and_evaluated_with_is_the_papers():
    settings = of("base-14m")
    tuned, evaluate = settings.finetune, settings.evaluate
    assert tuned.captioning.model and tuned.captioning.model.text.max_tokens == 40
    assert tuned.vqa.model and tuned.vqa.model.text.max_tokens == 35
    assert (evaluate.captioning.repetition_penalty, evaluate.captioning.normalise) == (1.0, "whole")
    assert of("captioning-nocaps").evaluate.captioning.repetition_penalty == 1.1
    assert tuned.retrieval.model and tuned.retrieval.model.text.max_tokens == 35
    assert tuned.captioning.objective.prompt == "a picture of "
    assert tuned.vqa.model and tuned.vqa.model.vision.drop_path == 0.1
    assert (evaluate.captioning.beams, evaluate.captioning.min_tokens, evaluate.captioning.max_tokens) == (
        3,
        5,
        20,
    )
    assert (evaluate.retrieval.rerank, evaluate.vqa.candidates) == (256, 128)
    for task in ("retrieval", "captioning", "vqa"):  # and so is what validation tells of it
        validated = getattr(settings.validation, task).model_dump(exclude={"data"})
        assert validated.items() <= getattr(evaluate, task).model_dump().items()


def test_flickr_draws_its_negatives_locally_and_scores_128_again():
    coco, flickr = of("base-14m"), of("retrieval-flickr")
    assert flickr.finetune.retrieval.objective.itm_negatives == "local"
    assert coco.finetune.retrieval.objective.itm_negatives == "global"
    assert (flickr.evaluate.retrieval.data, flickr.evaluate.retrieval.rerank) == ("flickr_test", 128)
    assert (flickr.validation.retrieval.data, flickr.validation.retrieval.rerank) == (
        "flickr_validation",
        128,
    )
    assert flickr.ingest.datasets["flickr_test"].split == "test"
    assert flickr.finetune.retrieval.mixture == [("flickr", 5.0)]


def test_nocaps_is_captioned_by_the_model_of_coco():
    coco, nocaps = of("base-14m"), of("captioning-nocaps")
    assert nocaps.evaluate.captioning.data == "nocaps"
    assert nocaps.ingest.datasets["nocaps"].role == "evaluation"
    assert nocaps.finetune == coco.finetune


def test_an_epoch_of_129m_is_the_rest_and_a_fifth_of_laion():
    settings = of("base-129m")
    rest, laion = 860_000 + 3_000_000 + 10_000_000, 115_000_000
    before, after = dict(settings.pretrain.mixture), dict(settings.pretrain_bootstrapped.mixture)
    assert before["web"] * (rest + laion) == pytest.approx(rest + laion / 5, rel=0.005)
    assert (before["human"], before["regions"], after["regions"]) == (5.0, 8.2, 8.2)
    of_14m = dict(of("base-14m").pretrain_bootstrapped.mixture)
    assert after["bootstrapped"] == pytest.approx(of_14m["bootstrapped"] * before["web"], rel=0.005)
    assert after["human"] + after["bootstrapped"] == pytest.approx(before["human"], rel=0.005)


@pytest.mark.parametrize("recipe", FULL_SCALE)
def test_every_dataset_of_a_run_is_ingested_or_made(recipe: str):
    settings = of(recipe)
    known = {*settings.ingest.datasets, "bootstrapped"}
    tuned = settings.finetune
    for run in (
        settings.pretrain,
        settings.pretrain_bootstrapped,
        settings.captioner,
        settings.filter,
        tuned.retrieval,
        tuned.captioning,
        tuned.vqa,
    ):
        assert known >= {name for name, _ in run.mixture}


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_what_is_to_be_put_in_place_is_nothing_that_git_would_take(recipe: str):
    ignored = (PARAMS.parent / ".gitignore").read_text(encoding="utf-8").split()
    sources = [Path(source.source) for source in of(recipe).ingest.datasets.values()]
    own = [path for path in sources if path.parts[1] != "sample"]
    assert all(f"/{'/'.join(path.parts[:2])}/" in ignored for path in own)


def write(folder: Path, **recipes: str) -> Path:
    """params.yaml and recipes beside it; the path of the first."""
    (folder / "infra/recipes").mkdir(parents=True)
    (folder / "params.yaml").write_text(PARAMS.read_text())
    for name, text in recipes.items():
        (folder / f"infra/recipes/{name}.yaml").write_text(text)
    return folder / "params.yaml"


GATED = {
    "captioner.validation.cider": 1.278,
    "finetune.captioning.validation.cider": 1.297,
    "finetune.retrieval.validation.i2t_r1": 0.806,
    "finetune.retrieval.validation.t2i_r1": 0.631,
    "finetune.vqa.validation.accuracy": 0.775,
}
"""What is published of base-14m's test data (arXiv 2201.12086, tables 1, 5, 7, 8); its gate reads validation's."""


@pytest.mark.parametrize("recipe", [*FULL_SCALE, "one-gpu-14m"])
def test_no_gate_of_a_full_scale_recipe_asks_for_exact_captions(recipe: str):
    gate = of(recipe).register_.gate
    assert gate.keys() == load_settings(PARAMS).register_.gate.keys()
    assert not [name for minimums in gate.values() for name in minimums if name.endswith("exact_match")]


def test_what_is_published_passes_the_gate_by_a_little():
    gate = of("base-14m").register_.gate
    minimums = {name: low for model in gate.values() for name, low in model.items() if name in GATED}
    assert minimums.keys() == GATED.keys()
    assert all(0.9 * GATED[name] < low < GATED[name] for name, low in minimums.items())


def test_a_recipe_says_only_in_what_it_differs_from_the_one_it_extends(tmp_path: Path):
    params = write(
        tmp_path,
        low="pretrain: {epochs: 3, training: {batch_size: 5, ranks: 2}}",
        middle="{extends: low, pretrain: {training: {batch_size: 7}}}",
        top="{extends: middle, pretrain: {steps: 9}}",
    )
    run = load_settings(params, "top").pretrain
    assert (run.steps, run.epochs, run.training.batch_size, run.training.ranks) == (9, None, 7, 2)
    assert load_settings(params, "middle").pretrain.epochs == 3
    assert load_settings(params, "top").recipe == "top"


def test_another_figure_of_a_models_gate_takes_the_place_of_the_one_below(tmp_path: Path):
    params = write(tmp_path, other="register: {gate: {blip-captioner: {captioner.validation.cider: 1.0}}}")
    before, gate = load_settings(params).register_.gate, load_settings(params, "other").register_.gate
    assert gate == before | {"blip-captioner": {"captioner.validation.cider": 1.0}}


def test_a_shared_block_that_no_run_takes_is_refused_and_not_dropped(tmp_path: Path):
    params = write(
        tmp_path,
        idle="training: {ranks: 8}",
        taken="{training: &training {ranks: 8}, pretrain: {training: *training}}",
        inherited="{training: &training {ranks: 8}, pretrain: {training: {<<: *training, batch_size: 5}}}",
    )
    with pytest.raises(
        BadArguments, match=r"idle\.yaml: training at the top .* or name the run: `pretrain: \{training"
    ):
        load_settings(params, "idle")
    assert {load_settings(params, name).pretrain.training.ranks for name in ("taken", "inherited")} == {8}


def test_recipes_that_extend_each_other_in_a_circle_are_refused(tmp_path: Path):
    params = write(tmp_path, a="extends: b", b="extends: c", c="extends: b")
    with pytest.raises(BadArguments, match=r"c\.yaml: .* in a circle: b -> c -> b; take one extends out"):
        load_settings(params, "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: base-15m", r"unknown recipe 'base-15m'; infra/recipes has: a"),
        ("extends: [a, b]", r"a\.yaml: extends: give the name of one recipe \(got \['a', 'b'\]\)"),
        ("extends: none.yaml", r"none\.yaml: no such file"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(BadArguments, match=message):
        load_settings(write(tmp_path, a=text), "a")


def test_the_best_epoch_is_kept_where_the_reference_code_keeps_it():
    settings = of("base-14m")
    tuned = settings.finetune
    assert (settings.captioner.candidates, settings.captioner.epochs) == (5, 5)
    assert (tuned.captioning.candidates, tuned.retrieval.candidates, settings.filter.candidates) == (5, 6, 1)
    assert tuned.nlvr and tuned.nlvr.candidates == 15
    assert {run.candidates for run in (settings.pretrain, settings.pretrain_bootstrapped, tuned.vqa)} == {1}
    assert of("visdial").finetune.visdial.candidates == 1, "its validation data are its test data"
    assert of("retrieval-flickr").validation.retrieval.data == "flickr_validation"


OFF = {
    "ingest": {"datasets": dict.fromkeys(("vqa_train", "vqa_validation", "vqa_test", "video"))},
    "finetune": {"vqa": None},
    "evaluate": {"vqa": None, "video": None},
}


@pytest.fixture
def without_vqa_and_video(tmp_path: Path) -> Path:
    """The settings with what docs/data.md leaves out of them."""
    values = yaml.safe_load(PARAMS.read_text())
    for section, tasks in OFF.items():
        for task, value in tasks.items():
            values[section][task] = values[section][task] | value if value else None
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "infra").symlink_to(PARAMS.parent / "infra")
    return tmp_path / "params.yaml"


def test_what_is_left_out_stays_so_under_a_recipe_with_a_few_settings_of_it(without_vqa_and_video: Path):
    settings = load_settings(without_vqa_and_video, "smoke")
    assert settings.finetune.vqa is None and settings.evaluate.vqa is None and settings.evaluate.video is None
    assert settings.finetune.captioning and settings.finetune.captioning.steps == 4


def test_a_recipe_that_has_all_of_a_task_puts_it_in(without_vqa_and_video: Path):
    values, recipe = yaml.safe_load(PARAMS.read_text()), without_vqa_and_video.with_name("mine.yaml")
    parts = {"ingest": ("datasets",), "finetune": ("vqa",), "evaluate": ("vqa",)}
    laid_over = {section: {name: values[section][name] for name in names} for section, names in parts.items()}
    recipe.write_text(yaml.safe_dump(laid_over))
    settings = load_settings(without_vqa_and_video, str(recipe))
    assert settings.finetune == load_settings(PARAMS).finetune
    assert settings.evaluate.vqa and settings.evaluate.video is None


def test_a_wrong_name_in_what_a_recipe_puts_in_again_is_told(without_vqa_and_video: Path):
    recipe = without_vqa_and_video.with_name("mine.yaml")
    recipe.write_text(
        "finetune: {vqa: {dat: [vqa_train], steps: 10}}\n"
        "evaluate: {nlvr: {data: nlvr_test, validaton: nlvr_validation}, video: {frames: 2}}\n"
    )
    values = yaml.safe_load(without_vqa_and_video.read_text())
    values["evaluate"]["nlvr"] = None
    without_vqa_and_video.write_text(yaml.safe_dump(values))
    with pytest.raises(BadArguments) as refused:
        load_settings(without_vqa_and_video, str(recipe))
    told = str(refused.value)
    assert "finetune.vqa.dat: no such setting" in told
    assert "evaluate.nlvr.validaton: no such setting" in told
    assert "evaluate.nlvr.validation: Field required" in told
    assert "evaluate.video" not in told, "of which the recipe says only a part, and nothing wrong"


def test_what_a_recipe_has_only_a_part_of_may_be_completed_beside_it(without_vqa_and_video: Path):
    values = yaml.safe_load(without_vqa_and_video.read_text())
    values["ingest"]["datasets"]["video"] = yaml.safe_load(PARAMS.read_text())["ingest"]["datasets"]["video"]
    without_vqa_and_video.write_text(yaml.safe_dump(values))
    settings = load_settings(without_vqa_and_video, "smoke", {"evaluate.video.data": "video"})
    video = settings.evaluate.video
    assert video and (video.data, video.frames, video.rerank) == ("video", 2, 4)
    assert settings.finetune.vqa is None and settings.evaluate.vqa is None
    assert write_parameters("smoke", {"evaluate.video.data": "video"}, without_vqa_and_video)
    assert load_settings(without_vqa_and_video) == settings


@pytest.mark.parametrize("name, value", [("evaluate.video.frames", 4), ("evaluate.video", {"frames": 4})])
def test_what_is_said_beside_a_recipe_of_a_task_that_still_lacks_something_is_not_dropped(
    without_vqa_and_video: Path, name: str, value: object
):
    with pytest.raises(
        BadArguments, match=r"with recipe smoke with --set: 1 setting.*\n.*video\.data: Field required"
    ):
        load_settings(without_vqa_and_video, "smoke", {name: value})


def test_a_setting_that_cannot_be_used_under_a_recipe_names_it(tmp_path: Path):
    params = write(tmp_path, a="pretrain: {stepz: 1}")
    with pytest.raises(BadArguments, match=r"params\.yaml with recipe a: 1 setting"):
        load_settings(params, "a")

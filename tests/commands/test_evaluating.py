"""`blip evaluate` with small real models, in a folder that is no project's."""

import csv
import io
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from blip.config import load_settings
from blip.data.pairs import PairsDataset
from blip.data.sample import Caption, Question, Sample
from blip.model.checkpoints import ModelCard, save_model
from blip.model.nlvr import pre_trained, save_nlvr
from tests import public_files, tiny
from tests.stages.conftest import write
from tests.stages.test_nlvr import pairs as pairs_of_pictures
from tests.stages.test_visdial import dialogs
from tests.tasks.test_video import clip

ROOT = Path(__file__).parents[2]
COLOURS = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No params.yaml, no registry."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)


def painted(colour: str) -> Sample:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return Sample(colour, file.getvalue(), "png", width=32, height=32)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three pictures with a caption each."""
    captions = {colour: (Caption(f"a {colour} apple", "human"),) for colour in COLOURS}
    write(tmp_path, "pairs", [replace(painted(colour), captions=captions[colour]) for colour in COLOURS])
    return tmp_path / "data/datasets/pairs"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Three pictures with a question each."""
    asked = {colour: (Question("what colour is it?", {colour: 1.0}, True),) for colour in COLOURS}
    write(tmp_path, "questions", [replace(painted(colour), questions=asked[colour]) for colour in COLOURS])
    return tmp_path / "data/datasets/questions"


def test_a_table_tells_the_figures_and_what_chance_reaches(blip, model: Path, dataset: Path):
    ended = blip("evaluate", "retrieval", dataset, "--model", model, "--rerank", 2)

    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[:2] == [f"retrieval: {dataset} by {model}", "3 images, 3 texts"]
    assert [word for word in lines[3].split() if word.isalpha()] == ["value", "at", "random"]
    first = next(line for line in lines if "image to text, R@1 " in line)
    assert first.split("│")[3].strip() == "33.3%"


def test_json_tells_figures_settings_and_digests(blip, model: Path, dataset: Path):
    told = json.loads(
        blip(
            "evaluate",
            "captioning",
            dataset,
            "--model",
            model,
            "--beams",
            2,
            "--set",
            "min_tokens=2",
            "--json",
        ).out
    )

    assert (told["task"], told["model"], told["dataset"]) == ("captioning", str(model), str(dataset))
    assert set(told["metrics"]) >= {"captioning.exact_match", "captioning.cider"}
    assert (told["settings"]["beams"], told["settings"]["min_tokens"], told["settings"]["max_tokens"]) == (
        2,
        2,
        20,
    )
    assert len(told["weights"]) == len(told["data"]) == 64


def test_the_way_told_for_nocaps_is_that_of_its_recipe(blip, model: Path, dataset: Path):
    docs = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    told = next(
        line for line in docs.splitlines() if line.startswith("blip evaluate captioning pairs/nocaps")
    )
    options = shlex.split(told.split(".pth")[1])

    ended = blip("evaluate", "captioning", dataset, "--model", model, *options, "--json")

    recipe = load_settings(ROOT / "params.yaml", "captioning-nocaps").evaluate.captioning
    assert json.loads(ended.out)["settings"] | {"data": recipe.data} == recipe.model_dump()


def test_nocaps_has_a_figure_for_each_domain_and_captions_for_its_server(blip, model: Path, tmp_path: Path):
    images, written = [], []
    for number, (colour, domain) in enumerate(
        zip(COLOURS, ("in-domain", "near-domain", "out-domain"), strict=True)
    ):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
        image = {"id": number, "file_name": f"{colour}.png", "open_images_id": colour, "domain": domain}
        images.append(image)
        written.append({"image_id": number, "id": number, "caption": f"a {colour} apple"})
    file = tmp_path / "nocaps_val_4500_captions.json"
    file.write_text(json.dumps({"images": images, "annotations": written}))
    assert blip("ingest", file, "--kind", "nocaps", "--out", tmp_path / "pairs").code == 0

    ended = blip("evaluate", "captioning", tmp_path / "pairs", "--model", model, "--out", tmp_path / "seen")

    assert ended.code == 0
    assert all(f"│ CIDEr, {image['domain']}" in ended.out for image in images)
    told = json.loads((tmp_path / "seen/answers.json").read_text())
    assert [caption["image_id"] for caption in told] == [0, 1, 2] and set(told[0]) == {"image_id", "caption"}


def test_what_validation_set_aside_is_left_out_and_counted(blip, model: Path, dataset: Path):
    before = json.loads(blip("evaluate", "retrieval", dataset, "--model", model, "--json").out)
    aside = dataset.parent / "validated"
    aside.mkdir()
    keys = pq.read_table(dataset / "metadata.parquet")["key"].to_pylist()
    pq.write_table(pa.table({"key": keys[:1]}), aside / f"{dataset.name}.parquet")

    told = json.loads(blip("evaluate", "retrieval", dataset, "--model", model, "--json").out)
    shown = blip("evaluate", "retrieval", dataset, "--model", model).out

    assert (before["metrics"]["retrieval.images"], told["metrics"]["retrieval.images"]) == (3, 2)
    assert (before["left_out"], told["left_out"]) == (0, 1)
    assert told["data"] != before["data"]
    assert "2 images, 2 texts; 1 left out, which validation set aside" in shown


def test_out_gets_examples_pictures_and_predictions_and_must_not_be_there(
    blip, model: Path, pictures: Path, tmp_path: Path
):
    rows = [f"{file.name},{file.stem.split()[0]}\n" for file in pictures.iterdir()]
    for name, column in (("captions.csv", "caption"), ("truth.csv", "label")):
        (pictures / name).write_text("".join([f"image,{column}\n", *rows]))
    labelled = tmp_path / "labelled"
    assert blip("ingest", pictures, "--out", labelled, "--origin", "web").code == 0
    command = ("evaluate", "classification", labelled, "--model", model, "--out", tmp_path / "seen")
    named = ("--template", "{}", "--template", "a picture of {}")

    ended, again = blip(*command, *named), blip(*command, *named)

    assert ended.code == 0
    assert f"{tmp_path / 'seen'}: examples.json, images/, predictions.csv" in ended.out
    assert len(list((tmp_path / "seen/images").iterdir())) == 3
    with (tmp_path / "seen/predictions.csv").open(newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 3
    assert again.code == 2
    assert f"--out {tmp_path / 'seen'} exists already" in again.err


def test_questions_are_answered_with_answers_of_training(blip, model: Path, questions: Path):
    ended = blip("evaluate", "vqa", questions, "--train", questions, "--model", model, "--candidates", 2)
    alone = blip("evaluate", "vqa", questions, "--model", model)

    assert ended.code == 0
    assert "3 images, 3 questions" in ended.out
    assert "│ open questions │" in ended.out and "yes or no" not in ended.out
    assert alone.code == 2
    assert "name the dataset that has them with --train" in alone.err


def test_what_may_be_answered_is_given_as_a_list(blip, model: Path, questions: Path, tmp_path: Path):
    listed = tmp_path / "answer_list.json"
    listed.write_text('["teal", "teal", ""]')
    command = ("evaluate", "vqa", questions, "--model", model, "--answers", listed)

    alone = json.loads(blip(*command, "--out", tmp_path / "seen", "--json").out)
    beside = json.loads(blip(*command, "--train", questions, "--json").out)

    assert alone["settings"]["answers"] == str(listed)
    assert alone["metrics"] == {"vqa.accuracy": 0.0, "vqa.open_accuracy": 0.0}
    with (tmp_path / "seen/predictions.csv").open(newline="") as handle:
        assert {row["prediction"] for row in csv.DictReader(handle)} == {"teal"}
    assert set(beside["metrics"]) >= {"vqa.question_only", "vqa.question_only_open"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("[", "not a JSON list of answers"),
        ('{"yes": 1}', 'not a JSON list of answers, as ["yes", "no"]'),
        ("[]", "it lists no answer"),
    ],
)
def test_a_list_of_answers_that_is_none_is_named(
    blip, model: Path, questions: Path, tmp_path: Path, text: str | None, message: str
):
    listed = tmp_path / "answer_list.json"
    if text is not None:
        listed.write_text(text)
    ended = blip("evaluate", "vqa", questions, "--model", model, "--answers", listed)
    assert ended.code == 1
    assert f"error: {listed}: {message}" in ended.err


def test_questions_of_a_test_are_read_and_answered_for_their_server(blip, model: Path, tmp_path: Path):
    asked = [{"question_id": 10 + n, "image_id": n, "question": "what colour is it?"} for n in (1, 2)]
    file = tmp_path / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    file.write_text(json.dumps({"data_subtype": "test-dev2015", "questions": asked}))
    (tmp_path / "test2015").mkdir()
    for entry, colour in zip(asked, COLOURS, strict=False):
        Image.new("RGB", (32, 32), colour).save(
            tmp_path / f"test2015/COCO_test2015_{entry['image_id']:012d}.jpg"
        )
    listed = tmp_path / "answer_list.json"
    listed.write_text('["teal"]')
    refused = blip("ingest", file, "--out", tmp_path / "refused")
    assert blip("ingest", file, "--role", "evaluation", "--out", tmp_path / "pairs").code == 0

    command = ("evaluate", "vqa", tmp_path / "pairs", "--answers", listed, "--model", model)
    ended = blip(*command, "--out", tmp_path / "seen")

    assert refused.code == 1 and "are read with --role evaluation" in refused.err
    assert ended.code == 0
    assert "no figures: there are no answers to compare with" in ended.out
    assert "predictions.csv, answers.json" in ended.out
    assert json.loads((tmp_path / "seen/answers.json").read_text()) == [
        {"question_id": number, "answer": "teal"} for number in (11, 12)
    ]


def test_it_is_said_what_the_file_for_a_server_has_no_answers_about(blip, model: Path, tmp_path: Path):
    asked = [{"question_id": 10 + n, "image_id": n, "question": "what colour is it?"} for n in range(4)]
    file = tmp_path / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    file.write_text(json.dumps({"data_subtype": "test-dev2015", "questions": asked}))
    (tmp_path / "test2015").mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"test2015/COCO_test2015_{number:012d}.jpg")
    listed = tmp_path / "answer_list.json"
    listed.write_text('["teal"]')
    limit = ("--max-bad-fraction", 0.5)
    assert blip("ingest", file, "--role", "evaluation", "--out", tmp_path / "pairs", *limit).code == 0
    aside = tmp_path / "validated"
    aside.mkdir()
    keys = pq.read_table(tmp_path / "pairs/metadata.parquet")["key"].to_pylist()
    pq.write_table(pa.table({"key": keys[:1]}), aside / "pairs.parquet")

    command = ("evaluate", "vqa", tmp_path / "pairs", "--answers", listed, "--model", model)
    alone, ended = blip(*command), blip(*command, "--out", tmp_path / "seen")

    assert len(json.loads((tmp_path / "seen/answers.json").read_text())) == 2
    assert f"{tmp_path / 'seen/answers.json'} has no answers about what" in ended.err
    assert "1 set aside by validation; refused by ingest: 1 missing_file. A server" in ended.err
    assert "A server" not in alone.err


def test_a_refused_text_of_a_picture_that_is_captioned_is_no_missing_answer(
    blip, model: Path, tmp_path: Path
):
    pictures, written = [], []
    for number, colour in enumerate(COLOURS):
        pictures.append(
            {"id": number, "file_name": f"{number}.png", "open_images_id": f"{number}", "domain": "in-domain"}
        )
        written += [
            {"image_id": number, "id": 2 * number + n, "caption": text}
            for n, text in enumerate((f"a {colour} apple", ""))
        ]
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    (tmp_path / "captions.json").write_text(json.dumps({"images": pictures, "annotations": written}))
    options = ("--kind", "nocaps", "--max-bad-fraction", 0.6)
    assert blip("ingest", tmp_path / "captions.json", "--out", tmp_path / "pairs", *options).code == 0
    assert PairsDataset.open(tmp_path / "pairs").manifest.quarantined == {"empty_caption": 3}
    command = ("evaluate", "captioning", tmp_path / "pairs", "--model", model, "--out", tmp_path / "seen")

    ended = blip(*command)

    assert len(json.loads((tmp_path / "seen/answers.json").read_text())) == 3
    assert ended.code == 0 and "has no answers" not in ended.err


def test_questions_about_clips_are_answered(blip, model: Path, questions: Path, tmp_path: Path):
    asked = [{"id": n, "video_id": 7020 + n, "question": "who?", "answer": "man"} for n in range(2)]
    (tmp_path / "msrvtt").mkdir()
    (tmp_path / "msrvtt/test_qa.json").write_text(json.dumps(asked))
    for entry in asked:
        (tmp_path / f"msrvtt/video{entry['video_id']}.mp4").write_bytes(clip([(255, 0, 0), (0, 0, 255)]))
    assert blip("ingest", tmp_path / "msrvtt/test_qa.json", "--out", tmp_path / "pairs").code == 0
    command = ("evaluate", "vqa", tmp_path / "pairs", "--train", questions, "--model", model)

    ended = blip(*command, "--frames", 2, "--out", tmp_path / "seen")

    assert ended.code == 0 and "2 images, 2 questions" in ended.out
    shown = json.loads((tmp_path / "seen/examples.json").read_text())["examples"]
    assert all((tmp_path / "seen" / example["image"]).is_file() for example in shown) and len(shown) == 2
    assert json.loads(blip(*command, "--json").out)["settings"]["frames"] == 16


def test_statements_are_judged_by_a_model_directory_and_a_public_file_alike(blip, tmp_path: Path):
    write(tmp_path, "nlvr", pairs_of_pictures(1))
    file = public_files.write(tmp_path / "model_base_nlvr.pth", public_files.state_of("nlvr"))
    tiny.tokenizer().save(tmp_path)
    assert blip("import", file, tmp_path / "imported").code == 0

    told = [
        json.loads(blip("evaluate", "nlvr", tmp_path / "data/datasets/nlvr", "--model", one, "--json").out)
        for one in (file, tmp_path / "imported")
    ]

    assert told[0]["metrics"] == told[1]["metrics"]
    assert told[0]["metrics"]["nlvr.majority"] == 0.5
    assert told[0]["weights"] is None and len(told[1]["weights"]) == 64


def test_dialogs_are_ranked(blip, model: Path, tmp_path: Path):
    write(tmp_path, "visdial", dialogs(1))

    ended = blip("evaluate", "visdial", tmp_path / "data/datasets/visdial", "--model", model)

    assert ended.code == 0
    assert "4 images, 8 questions" in ended.out
    assert "mean reciprocal rank" in ended.out and "0.750" in ended.out


@pytest.mark.parametrize(
    ("task", "missing", "lacks"),
    [
        ("vqa", ("text_encoder", "itm_head"), "cannot answer: its weights have no text_encoder"),
        ("retrieval", ("itm_head",), "cannot match: its weights have no itm_head"),
        ("captioning", ("text_decoder",), "cannot caption: its weights have no text_decoder"),
    ],
)
def test_a_model_that_lacks_what_the_task_needs_is_refused(
    blip, questions: Path, tmp_path: Path, task: str, missing: tuple[str, ...], lacks: str
):
    path = tmp_path / "lacking"
    save_model(tiny.network(), tiny.tokenizer(), path, ModelCard(missing=missing))
    train = ("--train", questions) if task == "vqa" else ()

    ended = blip("evaluate", task, questions, *train, "--model", path)

    assert ended.code == 1
    assert f"error: {path}: this model {lacks}; open a BlipFor" in ended.err


def test_a_model_for_two_pictures_does_nothing_else(blip, dataset: Path, tmp_path: Path):
    card = ModelCard(task="nlvr")
    save_nlvr(pre_trained(tiny.network()), tiny.tokenizer(), tmp_path / "nlvr", card)

    ended = blip("evaluate", "retrieval", dataset, "--model", tmp_path / "nlvr")

    assert ended.code == 1
    assert "is a model for NLVR2" in ended.err


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("vqa", "question answering needs questions with answers"),
        ("nlvr", "NLVR2 needs statements about two pictures"),
        ("visdial", "VisDial needs questions with their answer among candidates"),
        ("video", "is a picture (.png); the task video is about clips"),
    ],
)
def test_a_dataset_of_another_kind_is_named(
    blip, model: Path, dataset: Path, questions: Path, tmp_path: Path, task: str, message: str
):
    save_nlvr(pre_trained(tiny.network()), tiny.tokenizer(), tmp_path / "nlvr", ModelCard(task="nlvr"))
    train = ("--train", questions) if task == "vqa" else ()

    ended = blip("evaluate", task, dataset, *train, "--model", tmp_path / "nlvr" if task == "nlvr" else model)

    assert ended.code == 1
    assert f"error: {dataset}: " in ended.err and message in ended.err


def test_pairs_without_captions_are_named_with_the_way_to_look_at_them(blip, model: Path, questions: Path):
    for task in ("retrieval", "captioning", "classification"):
        ended = blip("evaluate", task, questions, "--model", model)
        assert ended.code == 1
        assert f"error: {questions}: {task} needs " in ended.err
        assert f"`blip inspect {questions}` shows what it holds" in ended.err


def test_training_questions_without_answers_are_named(blip, model: Path, questions: Path, dataset: Path):
    ended = blip("evaluate", "vqa", questions, "--train", dataset, "--model", model)
    assert ended.code == 1
    assert f"error: {dataset}: no question has an answer" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["depth"],
            "depth: no such task; there are: retrieval, captioning, vqa, classification, video, nlvr, visdial",
        ),
        (["retrieval", "--beams", 3], "--beams is no option of retrieval, which has --rerank, --rerank-by"),
        (["nlvr", "--template", "{}"], "--template is no option of nlvr, which has none of its own"),
        (["retrieval", "--rerank", 0], "rerank: Input should be greater than or equal to 1 (got 0)"),
        (["captioning", "--set", "min_token=2"], "min_token: no such setting; did you mean 'min_tokens'?"),
        (["captioning", "--set", "max_tokens=4"], "min_tokens 5 is not below max_tokens 4"),
        (["classification", "--template", "a photo"], "'a photo' has no {} for the class name"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_looked_for(
    blip, dataset: Path, arguments: list[object], message: str
):
    task, *options = arguments
    ended = blip("evaluate", task, dataset, *options, "--model", "models/none")
    assert ended.code == 2
    assert message in ended.err


def test_a_folder_that_is_no_dataset_is_refused_before_a_model_is_looked_for(blip, tmp_path: Path):
    ended = blip("evaluate", "retrieval", tmp_path, "--model", "models/none")
    assert ended.code == 1
    assert f"{tmp_path} is not a pairs dataset" in ended.err

"""`blip caption`, `match`, `answer`, `search` and `classify` with a small real model."""

import json
import shutil
from pathlib import Path

import pytest

from tests.model import theirs


def test_caption_writes_one_line_a_picture(blip, model: Path, pictures: Path):
    paths = sorted(pictures.iterdir())

    written = json.loads(blip("caption", *paths, "--model", model, "--device", "cpu", "--json").out)

    assert [entry["image"] for entry in written] == [str(path) for path in paths]
    assert all(isinstance(entry["caption"], str) for entry in written)


def test_a_file_that_is_no_picture_is_named(blip, model: Path, tmp_path: Path):
    (tmp_path / "notes.png").write_text("no picture")

    ended = blip("caption", tmp_path / "notes.png", "--model", model)

    assert ended.code == 1
    assert f"{tmp_path / 'notes.png'} cannot be used as a picture" in ended.err
    assert "error: none of the 1 files can be used as a picture" in ended.err


def test_a_file_that_is_no_picture_does_not_keep_the_others_from_their_captions(
    blip, model: Path, pictures: Path
):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    ended = blip("caption", *sorted(pictures.iterdir()), pictures / "none.jpg", "--model", model, "--json")
    assert ended.code == 0
    assert [Path(one["image"]).name for one in json.loads(ended.out)] == [
        "blue apple.png", "green apple.png", "red apple.png",
    ]  # fmt: skip
    assert f"left out: {pictures / 'broken.jpg'} cannot be used as a picture" in ended.err
    assert "none.jpg" in ended.err


def test_where_a_model_writes_nothing_a_person_is_told_so(blip, model: Path, pictures: Path, monkeypatch):
    monkeypatch.setattr("blip.model.api.Blip.caption", lambda self, images, *_, **__: [""] * len(images))
    monkeypatch.setattr("blip.model.api.Blip.answer", lambda self, images, *_: [""])
    picture = pictures / "red apple.png"
    for command in (["caption", picture], ["answer", picture, "what?"]):
        assert blip(*command, "--model", model).out.rstrip().endswith("(nothing)")
        told = json.loads(blip(*command, "--model", model, "--json").out)
        assert (told[0]["caption"] if isinstance(told, list) else told["answer"]) == ""


def test_a_captioner_of_transformers_says_that_it_writes_without_a_prompt(
    blip, pictures: Path, tmp_path: Path
):
    directory = theirs.save(theirs.make("BlipForConditionalGeneration", "even"), tmp_path / "theirs")
    command = ("caption", *sorted(pictures.iterdir()), "--model", directory, "--json")
    bare, given = blip(*command), blip(*command, "--prompt", "picture of the")
    told = 'for that put "blip": {"prompt": "a picture of "} there'
    assert told in bare.err and "tells no prompt" not in given.err
    assert bare.out != given.out
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"blip": {"prompt": "picture of the"}}))
    own = blip(*command)
    assert (own.out, own.err) == (given.out, given.err)


def test_names_of_pictures_do_not_reach_the_terminal_as_orders(blip, model: Path, pictures: Path):
    (pictures / "red apple.png").rename(pictures / "red\x1b[2J.png")

    shown = blip("caption", *sorted(pictures.iterdir()), "--model", model, "--device", "cpu")

    assert "red\\x1b[2J.png" in shown.out
    assert "\x1b" not in shown.out


def test_match_gives_a_probability_and_a_cosine(blip, model: Path, pictures: Path):
    scores = json.loads(
        blip("match", pictures / "red apple.png", "a red apple", "a dog", "--model", model, "--json").out
    )

    assert [score["text"] for score in scores] == ["a red apple", "a dog"]
    for score in scores:
        assert 0 <= score["probability"] <= 1
        assert -1 <= score["cosine"] <= 1


@pytest.mark.parametrize("text", ["", " ", "..."])
def test_a_text_without_a_word_matches_nothing(blip, model: Path, pictures: Path, text: str):
    ended = blip("match", pictures / "red apple.png", "an apple", text, "--model", model)
    assert ended.code == 2
    assert f"the text {text!r} has no word: write some" in ended.err


@pytest.mark.parametrize("text", ["", "!!!"])
@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("text", "search {pictures} {text}"),
        ("question", "answer {picture} {text}"),
        ("candidate", "answer {picture} what? --candidates red,{text}"),
        ("name", "classify {picture} --labels red,blue,{text}"),
    ],
)
def test_a_text_without_a_word_ranks_nothing(
    blip, model: Path, pictures: Path, what: str, command: str, text: str
):
    places = {"pictures": pictures, "picture": pictures / "red apple.png", "text": text}
    ended = blip(*(word.format(**places) for word in command.split()), "--model", model)
    if text or what in ("text", "question"):  # empty ones between commas are none
        assert ended.code == 2 and f"the {what} {text!r} has no word: write some" in ended.err
    else:
        assert ended.code == 0


def test_answer_chooses_among_the_candidates(blip, model: Path, pictures: Path):
    ended = blip(
        "answer", pictures / "red apple.png", "what?", "--candidates", "red, green", "--model", model
    )

    assert ended.out.strip() in ("red", "green")


def test_search_ranks_the_pictures_of_a_folder(blip, model: Path, pictures: Path):
    found = json.loads(blip("search", pictures, "an apple", "--top", 2, "--model", model, "--json").out)

    assert len(found) == 2
    assert found[0]["cosine"] >= found[1]["cosine"]


def test_search_leaves_out_what_is_no_picture_and_says_so(blip, model: Path, pictures: Path):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    (pictures / "folder.jpg").mkdir()
    ended = blip("search", pictures, "red apple", "--model", model, "--device", "cpu")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 3
    assert "left out: " in ended.err
    assert "broken.jpg cannot be used as a picture" in ended.err


def test_classify_shares_one_among_the_labels(blip, model: Path, pictures: Path):
    ended = blip("classify", pictures / "red apple.png", "--labels", "dog,apple", "--model", model, "--json")

    shares = json.loads(ended.out)
    assert {entry["label"] for entry in shares} == {"dog", "apple"}
    assert sum(entry["probability"] for entry in shares) == pytest.approx(1)


def test_a_label_that_is_given_twice_counts_once(blip, model: Path, pictures: Path):
    asked = ["classify", pictures / "red apple.png", "--model", model, "--json", "--labels"]
    assert blip(*asked, "dog,apple,dog").out == blip(*asked, "dog,apple").out
    ended = blip(*asked, "dog, dog")
    assert ended.code == 2 and "there is one name to choose from, 'dog': give two that differ" in ended.err


def test_a_missing_model_is_named_with_the_way_out(blip, pictures: Path):
    ended = blip("caption", pictures / "red apple.png", "--model", pictures / "none")

    assert ended.code == 1
    assert f"{pictures / 'none'}: no such model directory" in ended.err


def test_a_text_that_is_longer_than_the_model_reads_is_said_to_be_cut(blip, model: Path, pictures: Path):
    picture, long = next(pictures.iterdir()), " ".join(["red apple"] * 40)
    ended = blip("match", picture, "red apple", long, "--model", model, "--device", "cpu")
    assert ended.code == 0
    assert "1 of 2 are longer: what is behind is left out" in ended.err
    assert not blip("match", picture, "red apple", "--model", model, "--device", "cpu").err


def test_candidates_that_are_none_are_refused(blip, model: Path, pictures: Path):
    ended = blip("answer", next(pictures.iterdir()), "what?", "--candidates", ",", "--model", model)
    assert ended.code == 2 and "--candidates ',' names no answer" in ended.err


def test_a_model_that_learnt_something_else_says_so(blip, model: Path, pictures: Path, tmp_path: Path):
    answers = tmp_path / "vqa"
    shutil.copytree(model, answers)
    config = json.loads((answers / "config.json").read_text())
    config["blip"]["task"] = "finetune@vqa"
    (answers / "config.json").write_text(json.dumps(config))
    picture = pictures / "red apple.png"
    said = "learnt to answer questions and nothing else: do not expect much"
    assert said in blip("caption", picture, "--model", answers).err
    assert said in blip("match", picture, "red apple", "--model", answers).err
    assert not blip("answer", picture, "what?", "--model", answers).err
    assert "has not learnt to answer questions" in blip("answer", picture, "what?", "--model", model).err
    assert not blip("caption", picture, "--model", model).err

"""The `blip` command: help, exit codes and messages, and each command on small real things."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blip import cli
from blip.commands.heatmaps import draw
from blip.errors import BadArguments, BlipError, Preempted
from blip.model.explain import Explanation
from tests import tiny

COMMANDS = (
    "stage", "ingest", "validate", "inspect", "capfilt", "gallery", "caption", "match", "answer", "search", "classify",
    "explain", "import", "promote", "doctor", "bench",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with random weights."""
    from blip.model.checkpoints import ModelCard, save_model

    directory, tokenizer = tmp_path_factory.mktemp("models") / "tiny", tiny.tokenizer()
    ids = {"bos": tokenizer.bos, "sep": tokenizer.sep, "pad": tokenizer.pad, "enc": tokenizer.enc}
    save_model(tiny.network(), tokenizer, directory, ModelCard(), ids)
    return directory


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a red, a green and a blue picture, and a caption for each in its name."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("red", "green", "blue"):
        Image.new("RGB", (48, 40), name).save(folder / f"{name} apple.png")
    return folder


@pytest.fixture
def dataset(blip, pictures: Path, tmp_path: Path) -> Path:
    """The pictures as a pairs dataset."""
    assert blip("ingest", pictures, "--out", tmp_path / "pairs", "--origin", "web").code == 0
    return tmp_path / "pairs"


def test_help_is_grouped_and_lists_every_command(blip):
    shown = blip("--help").out

    assert [group for group in ("Pipeline", "Data", "Models", "Operations") if f" {group} " in shown] == [
        "Pipeline", "Data", "Models", "Operations",
    ]  # fmt: skip
    assert all(f" {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_in_its_help(blip, command: str):
    shown = blip(command, "--help")

    assert shown.code == 0
    assert f"Example: blip {command}" in " ".join(shown.out.split())


def test_help_imports_nothing_that_is_slow():
    code = "import sys, blip.cli\ntry: blip.cli.main()\nfinally: print(sorted(sys.modules))"
    command = [sys.executable, "-c", code, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert not [
        name for name in ("torch", "mlflow", "numpy", "transformers", "prefect") if f"'{name}'" in shown
    ]


def test_an_unknown_command_is_a_bad_argument(blip):
    assert blip("captoin").code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage", "pretain"], "there is no stage 'pretain' (did you mean pretrain?)"),
        (["stage", "ingest", "--set", "seed"], "write a setting as NAME=VALUE"),
        (["stage", "ingest", "--set", "sead=1"], "did you mean 'seed'?"),
        (["stage", "ingest", "--recipe", "base-15m"], "unknown recipe 'base-15m'"),
        (["classify", "cat.png", "--labels", "cat"], "two or more --labels"),
    ],
)
def test_bad_arguments_exit_2_with_the_way_out(blip, arguments: list[str], message: str):
    ended = blip(*arguments)

    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert message in ended.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(BlipError("no data"), 1), (BadArguments("no such"), 2), (Preempted("checkpoint saved at step 40"), 75)],
)
def test_an_error_for_the_user_is_one_message_and_its_exit_code(
    blip, monkeypatch, error: BlipError, code: int
):
    monkeypatch.setattr(cli, "app", _raises(error))

    ended = blip()
    assert (ended.code, ended.out, ended.err) == (code, "", f"error: {error}\n")


def test_what_a_terminal_would_obey_is_spelled(blip, monkeypatch):
    hostile = "a\x1b[2Jb.jpg\r\x07\x9b31m\x7f\tof\nshard 1"
    monkeypatch.setattr(cli, "app", _raises(BlipError(hostile)))

    assert blip().err == "error: a\\x1b[2Jb.jpg\\x0d\\x07\\x9b31m\\x7f\tof\nshard 1\n"


def test_names_of_pictures_do_not_reach_the_terminal_as_orders(blip, model: Path, pictures: Path):
    (pictures / "red apple.png").rename(pictures / "red\x1b[2J.png")

    shown = blip("caption", *sorted(pictures.iterdir()), "--model", model, "--device", "cpu")

    assert "red\\x1b[2J.png" in shown.out
    assert "\x1b" not in shown.out


def test_a_full_disk_is_named_with_the_way_out(blip, monkeypatch):
    monkeypatch.setattr(
        cli, "app", _raises(OSError(errno.ENOSPC, "No space left on device", "models/pretrain"))
    )

    ended = blip()
    assert ended.code == 1
    assert "no space left on the device (writing models/pretrain)" in ended.err
    assert "the same command continues" in ended.err


def test_a_full_disk_is_known_by_its_words_too(blip, monkeypatch):
    monkeypatch.setattr(cli, "app", _raises(RuntimeError("write failed: No space left on device")))

    assert "no space left on the device" in blip().err


def test_an_unexpected_error_keeps_its_traceback(blip, monkeypatch):
    monkeypatch.setattr(cli, "app", _raises(ZeroDivisionError("a defect")))

    with pytest.raises(ZeroDivisionError, match="a defect"):
        blip()


def test_a_path_that_cannot_be_written_is_named(blip, model: Path, pictures: Path, tmp_path: Path):
    out = tmp_path / "seen.png"
    out.mkdir()
    result = blip("explain", next(pictures.glob("*.png")), "red apple", "--model", model, "--out", out)
    assert result.code == 1
    assert f"error: {out}: Is a directory" in result.err


def test_with_json_nothing_else_is_on_standard_output(model: Path, dataset: Path, tmp_path: Path):
    models = ["--captioner", model, "--filter", model, "--max-tokens", 7, "--workers", 1, "--json"]
    command = [sys.executable, "-m", "blip", "capfilt", dataset, tmp_path / "cleaned", *models]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["images"] == 3
    assert "capfilt  shard 1/1" in done.stderr


def test_capfilt_refuses_lengths_without_room_for_a_caption(blip, dataset: Path, tmp_path: Path):
    result = blip("capfilt", dataset, tmp_path / "out", "--min-tokens", 30, "--max-tokens", 10)
    assert result.code == 2
    assert "--min-tokens 30 is not below --max-tokens 10" in result.err


def test_ingest_makes_a_dataset_and_tells_what_is_in_it(blip, dataset: Path):
    counts = json.loads(blip("inspect", dataset, "--json").out)

    assert counts["samples"] == 3
    assert counts["origin"] == {"web": 3}
    assert counts["short side"] == "40 to 40 px"


def test_ingest_does_not_write_over_a_dataset(blip, dataset: Path, pictures: Path):
    ended = blip("ingest", pictures, "--out", dataset)

    assert ended.code == 2
    assert "exists already" in ended.err


def test_a_broken_picture_is_set_aside_and_counted(blip, pictures: Path, tmp_path: Path):
    (pictures / "broken apple.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))

    assert blip("ingest", pictures, "--out", tmp_path / "pairs", "--max-bad-fraction", 0.5).code == 0

    counts = json.loads(blip("inspect", tmp_path / "pairs", "--json").out)
    assert (counts["samples"], sum(counts["set aside"].values())) == (3, 1)


def test_inspect_shows_bars_and_what_was_left_out_with_examples(blip, pictures: Path, tmp_path: Path):
    (pictures / "broken apple.png").write_bytes(b"<html>404 [bold]no[/bold]")
    (pictures / "wide apple.txt").write_text("a wide apple\nanother caption of it\n")
    Image.new("RGB", (300, 100), "red").save(pictures / "wide apple.png")
    for picture in pictures.glob("*.png"):  # where one has a text, names are no captions
        if not (text := picture.with_suffix(".txt")).exists():
            text.write_text(picture.stem)
    blip("ingest", pictures, "--out", tmp_path / "pairs", "--origin", "web", "--max-bad-fraction", 0.5)

    shown = blip("inspect", tmp_path / "pairs").out

    assert "samples            4\n" in shown
    assert "set aside          1 not_an_image\n" in shown
    assert "short side  40 to 100 px, mean 55" in shown
    assert re.search(r" 32 - 47 █{24} +3 +75%", shown)
    plain = re.sub(r"[│\s]+", " ", shown)
    assert re.search(r"not_an_image 1 ingest broken_apple-\w+ 25 bytes that begin with b'<html>40'", plain)


def test_inspect_draws_what_it_saw(blip, dataset: Path, tmp_path: Path):
    ended = blip("inspect", dataset, "--png", tmp_path / "seen", "--json")

    drawn = json.loads(ended.out)["pictures"]
    assert drawn == [str(tmp_path / "seen" / name) for name in ("contact_sheet.png", "histograms.png")]
    with Image.open(drawn[0]) as sheet:
        assert sheet.format == "PNG"


def test_a_sound_dataset_is_valid(blip, dataset: Path):
    assert blip("validate", dataset).out == f"{dataset}: 3 samples in 1 shards, as the manifest says\n"


def test_a_damaged_shard_is_found(blip, dataset: Path):
    shard = next(dataset.glob("shards/*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)

    ended = blip("validate", dataset)
    assert ended.code == 1
    assert "shards/00000.tar is not the file that the manifest describes" in ended.err
    assert "shard shards/00000.tar: key blue_apple-" in ended.err


def test_a_folder_that_is_no_dataset_is_refused(blip, pictures: Path):
    ended = blip("inspect", pictures)

    assert ended.code == 1
    assert "is not a pairs dataset" in ended.err


def test_caption_writes_one_line_a_picture(blip, model: Path, pictures: Path):
    paths = sorted(pictures.iterdir())

    written = json.loads(blip("caption", *paths, "--model", model, "--device", "cpu", "--json").out)

    assert [entry["image"] for entry in written] == [str(path) for path in paths]
    assert all(isinstance(entry["caption"], str) for entry in written)


def test_match_gives_a_probability_and_a_cosine(blip, model: Path, pictures: Path):
    scores = json.loads(
        blip("match", pictures / "red apple.png", "a red apple", "a dog", "--model", model, "--json").out
    )

    assert [score["text"] for score in scores] == ["a red apple", "a dog"]
    for score in scores:
        assert 0 <= score["probability"] <= 1
        assert -1 <= score["cosine"] <= 1


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


def test_explain_draws_a_picture(blip, model: Path, pictures: Path, tmp_path: Path):
    out = tmp_path / "seen.png"

    ended = blip("explain", pictures / "red apple.png", "red apple", "--out", out, "--model", model)

    assert ended.code == 0
    with Image.open(out) as drawn:
        assert drawn.format == "PNG"


def test_explain_says_which_words_it_left_out(blip, model: Path, pictures: Path, tmp_path: Path):
    explain = ("explain", pictures / "red apple.png", "a ☃ dog with " + "apple " * 30, "--model", model)

    ended = blip(*explain, "--out", tmp_path / "seen.png")
    told = json.loads(blip(*explain, "--out", tmp_path / "seen.png", "--json").out)

    assert "left out: ☃ (unknown to the model)\nleft out: apple, apple, " in ended.out
    assert told["words"][:4] == ["a", "dog", "with", "apple"]
    assert (told["unknown"], set(told["cut"])) == (["☃"], {"apple"})
    assert len(told["words"]) + 1 + len(told["cut"]) == 34


def test_explain_does_not_write_a_png_under_another_name(blip, model: Path, pictures: Path, tmp_path: Path):
    out = tmp_path / "seen.jpg"
    ended = blip("explain", pictures / "red apple.png", "apple", "--out", out, "--model", model)
    assert ended.code == 2
    assert f"--out {out}: a PNG is written; give a name that ends in .png" in ended.err


@pytest.mark.parametrize(("size", "shape"), [((800, 40), (1250, 310)), ((40, 800), (320, 980))])
def test_heat_maps_have_the_shape_of_the_picture(tmp_path: Path, size, shape):
    """A wide picture has a line for each panel, a tall one narrow panels: little of the page is white."""
    maps = np.linspace(0, 1, 2 * 32 * 32).reshape(2, 32, 32)
    draw(Image.new("RGB", size, "green"), Explanation(["red", "apple"], maps, 0.5), tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert all(side <= most for side, most in zip(drawn.size, shape, strict=True))
    assert (pixels != 255).any(axis=2).mean() > 0.1


def test_a_setting_of_ingest_that_is_none_is_named(blip, pictures: Path, tmp_path: Path):
    ended = blip("ingest", pictures, "--out", tmp_path / "out", "--set", "download.conections=3")

    assert ended.code == 2
    assert "download.conections: no such setting; did you mean 'connections'?" in ended.err


def test_capfilt_bootstraps_a_dataset(blip, model: Path, dataset: Path, tmp_path: Path):
    models = ("--captioner", model, "--filter", model)

    ended = blip("capfilt", dataset, tmp_path / "clean", *models, "--threshold", 0, "--device", "cpu")

    assert ended.code == 0
    assert json.loads(blip("inspect", tmp_path / "clean", "--json").out)["samples"] == 3


def test_capfilt_counts_the_shards_it_sets_aside(blip, model: Path, pictures: Path, tmp_path: Path):
    pool, clean = tmp_path / "pool", tmp_path / "clean"
    made = ("--out", pool, "--origin", "web", "--set", "samples_per_shard=2")
    assert blip("ingest", pictures, *made).code == 0
    first = pool / "shards/00000.tar"
    first.write_bytes(first.read_bytes().replace(b"IDAT", b"XXXX"))
    judged = ("--captioner", model, "--filter", model, "--workers", 1, "--min-tokens", 1, "--threshold", 0)

    ended = blip("capfilt", pool, clean, *judged, "--max-tokens", 5)

    assert ended.code == 0
    assert re.search(r"^ *images +1$", ended.out, re.M)
    assert re.search(r"^ *shards set aside +1$", ended.out, re.M)


@pytest.fixture
def bootstrapped(blip, model: Path, dataset: Path, tmp_path: Path) -> Path:
    """What CapFilt makes of the pictures when it drops no text."""
    made = tmp_path / "clean"
    judged = ("--captioner", model, "--filter", model, "--workers", 1, "--min-tokens", 1, "--threshold", 0)
    assert blip("capfilt", dataset, made, *judged).code == 0
    return made


def test_gallery_draws_a_page_about_a_bootstrapped_dataset(
    blip, dataset: Path, bootstrapped: Path, tmp_path: Path
):
    page = tmp_path / "pages/gallery.html"
    ended = blip("gallery", dataset, bootstrapped, "--out", page, "--per-group", 2, "--by", "width", "--json")
    counts = json.loads(ended.out)

    assert ended.code == 0
    assert (counts["images"], counts["texts"]["web"]["kept"], counts["page"]) == (3, 3, str(page))
    assert [(source["name"], source["pictures"]) for source in counts["sources"]] == [("48", 3)]
    cards = page.read_text(encoding="utf-8").count('<li class="card">')
    assert cards == 4  # two of the pool, two of those kept


def test_gallery_of_a_column_that_is_none_names_those_there_are(
    blip, dataset: Path, bootstrapped: Path, tmp_path: Path
):
    ended = blip("gallery", dataset, bootstrapped, "--out", tmp_path / "gallery.html", "--by", "site")

    assert ended.code == 2
    assert "has no column site to tell sources by; it has: key, shard, width" in ended.err
    assert not (tmp_path / "gallery.html").exists()


def test_gallery_of_a_dataset_without_audit_says_what_writes_one(blip, dataset: Path, tmp_path: Path):
    ended = blip("gallery", dataset, dataset, "--out", tmp_path / "gallery.html")

    assert ended.code == 1
    assert f"{dataset} has no audit.parquet: `blip capfilt" in ended.err


def test_calibrate_prints_and_draws_the_curve(blip, model: Path, dataset: Path, tmp_path: Path):
    ended = blip("calibrate", dataset, "--filter", model, "--png", tmp_path / "curve.png", "--device", "cpu")

    assert ended.code == 0
    assert ended.out.splitlines()[1].split() == ["threshold", "precision", "recall", "kept"]
    assert len(ended.out.splitlines()) == 20
    with Image.open(tmp_path / "curve.png") as drawn:
        assert drawn.format == "PNG"


def test_calibrate_asks_similar_pictures_of_a_pool_that_is_named(blip, model: Path, dataset: Path):
    ended = blip("calibrate", dataset, "--filter", model, "--neighbours", "2", "--device", "cpu")
    asked = blip(
        "calibrate", dataset, "--filter", model, "--neighbours", "2", "--web", dataset, "--device", "cpu"
    )

    assert ended.code == 2
    assert "--neighbours are pictures of a pool: name its dataset with --web" in ended.err
    assert asked.code == 0, asked.err


@pytest.mark.parametrize("threshold", ["2", "keep=x", "recall=0.5"])
def test_a_threshold_that_is_none_is_refused(
    blip, model: Path, dataset: Path, tmp_path: Path, threshold: str
):
    ended = blip("capfilt", dataset, tmp_path / "clean", "--threshold", threshold, "--device", "cpu")

    assert ended.code == 2
    assert f"--threshold {threshold}: give a probability" in ended.err


def test_a_missing_model_is_named_with_the_way_out(blip, pictures: Path):
    ended = blip("caption", pictures / "red apple.png", "--model", pictures / "none")

    assert ended.code == 1
    assert f"{pictures / 'none'}: no such model directory" in ended.err


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
    monkeypatch.setattr("blip.model.api.Blip.caption", lambda self, images, decoding: [""] * len(images))
    monkeypatch.setattr("blip.model.api.Blip.answer", lambda self, images, *_: [""])
    picture = pictures / "red apple.png"
    for command in (["caption", picture], ["answer", picture, "what?"]):
        assert blip(*command, "--model", model).out.rstrip().endswith("(nothing)")
        told = json.loads(blip(*command, "--model", model, "--json").out)
        assert (told[0]["caption"] if isinstance(told, list) else told["answer"]) == ""


@pytest.mark.parametrize("text", ["", " ", "..."])
def test_a_text_without_a_word_matches_nothing(blip, model: Path, pictures: Path, text: str):
    ended = blip("match", pictures / "red apple.png", "an apple", text, "--model", model)
    assert ended.code == 2
    assert f"the text {text!r} has no word that could match" in ended.err


def test_promote_without_a_registry_names_what_is_missing(blip, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)

    ended = blip("promote", "blip-captioning", 3)

    assert ended.code == 1
    assert "blip-captioning" in ended.err


def test_doctor_outside_a_project_says_what_stands_in_the_way(blip, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)

    ended = blip("doctor", "--json")

    states = {finding["subject"]: finding["state"] for finding in json.loads(ended.out)}
    assert ended.code == 1
    assert (states["python"], states["torch"]) == ("good", "good")
    assert (states["dvc"], states["settings"]) == ("bad", "bad")


def _raises(error: Exception):
    def app() -> None:
        raise error

    return app

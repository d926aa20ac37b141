"""A registered model answers through MLflow as the model directory answers through blip.load."""

import ast
import base64
import json
import subprocess
import sys
import warnings
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import mlflow.pyfunc  # noqa: F401  (its first import warns of MLflow's own types, the tests are about ours)
import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import blip
from blip.config import load_settings
from blip.data.text import train_tokenizer
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import ModelCard, save_network
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.tracking import packaging, registry, store
from blip.tracking.runs import stage_run

PARAMS = Path(__file__).parents[2] / "params.yaml"
TEXTS = ["a red square", "a blue square", "what colour is it?"]


def make_model(directory: Path) -> Path:
    """A random network of the smallest size that works, with a tokenizer."""
    torch.manual_seed(7)
    tokenizer = train_tokenizer(TEXTS, 128)
    text = TextConfig(
        len(tokenizer), width=32, layers=1, heads=2, max_positions=32, dropout=0.0, context_width=32
    )
    network = BlipNetwork(BlipConfig(VisionConfig(16, 8, 32, 1, 2), text, projection=16)).eval()
    save_network(network, directory, ModelCard(max_tokens=16), tokenizer.special_tokens)
    tokenizer.save(directory)
    return directory


def picture(colour: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (20, 20), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder whose registry holds one model as blip-captioning@champion."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        directory = make_model(folder / "models/captioning")
        with stage_run("register", load_settings(PARAMS)) as run, warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            registry.register(
                "blip-captioning", directory, run_id=run.run_id, figures={}, how={}, tags={}, task="caption"
            )
        registry.promote("blip-captioning", 1)
    return folder


@pytest.fixture
def opened(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Opens the champion as MLflow does, with the configuration that is given."""
    import mlflow

    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri())

    def load(**config: str):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return mlflow.pyfunc.load_model("models:/blip-captioning@champion", model_config=config)

    return load


@pytest.fixture
def served(opened):
    """The champion as it is served."""
    return opened()


@pytest.fixture
def photos(folder: Path, tmp_path: Path) -> Path:
    """A folder with a picture, a file that is none and a link to what lies outside, where there are both as well."""
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    (photos / "red.png").write_bytes(picture("red"))
    (photos / "notes.txt").write_text("a password")
    (tmp_path / "notes.txt").write_text("a password")
    (tmp_path / "red.png").write_bytes(picture("red"))
    (photos / "link.png").unlink(missing_ok=True)
    (photos / "link.png").symlink_to(tmp_path / "red.png")
    return photos


def refusal(model, image: str) -> str:
    """What a client is told of an image."""
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        model.predict(pd.DataFrame({"image": [image]}))
    return caught.value.serialize_as_json()


def test_captions_are_those_of_the_model_directory(opened, folder: Path, photos: Path) -> None:
    red, blue = picture("red"), picture("blue")
    encoded = base64.b64encode(blue).decode()
    images = ["photos/red.png", str(photos / "red.png"), red, encoded, f"data:image/png;base64,{encoded}"]
    captions = opened(images_root=".").predict(pd.DataFrame({"image": images}))["prediction"].tolist()
    model = blip.load(str(folder / "models/captioning"))
    assert captions == model.caption([red, red, red, blue, blue], decoding="beam")


def test_a_served_model_opens_no_file(served, photos: Path, tmp_path: Path) -> None:
    """A picture, a text and what is not there are one to a client."""
    for path in (photos / "red.png", tmp_path / "notes.txt", tmp_path / "none!.png"):
        told = refusal(served, str(path))
        assert (
            f"row 0: image {str(path)[:80]!r} is not base64 (paths are taken only by a model that is loaded"
            in told
        )


def test_below_images_root_means_below_it(opened, photos: Path, tmp_path: Path) -> None:
    model = opened(images_root=str(photos))
    assert len(model.predict(pd.DataFrame({"image": ["red.png"]}))) == 1
    outside = ("link.png", "../photos/../../x.png", str(tmp_path / "red.png"), str(tmp_path / "notes.txt"))
    for path in (*outside, "none.png"):
        assert f"image {path[:80]!r} is not base64 nor a picture below images_root" in refusal(model, path)


def test_of_a_file_that_is_no_picture_the_answer_has_no_byte(opened, photos: Path) -> None:
    told = refusal(opened(images_root=str(photos)), "notes.txt")
    assert "row 0: image 'notes.txt' is no usable picture: not_an_image" in told
    assert "password" not in told
    assert str(photos) not in told


def test_of_what_nobody_foresaw_a_client_learns_the_kind_alone(served, monkeypatch) -> None:
    from mlflow.exceptions import MlflowException

    model = served.unwrap_python_model()
    monkeypatch.setattr(model._model, "caption", lambda *_, **__: {}["/etc/x"])
    with pytest.raises(MlflowException, match=r"^KeyError in task 'caption'; the server's log has more$"):
        served.predict(pd.DataFrame({"image": [picture("red")]}))


def test_match_scores_row_by_row(served, folder: Path) -> None:
    model = blip.load("models:/blip-captioning@champion")
    images, texts = [picture("red"), picture("blue")], TEXTS[:2]
    table = pd.DataFrame({"image": images, "text": texts})
    for head in ("itm", "itc"):
        scores = served.predict(table, params={"task": "match", "head": head})["prediction"]
        torch.testing.assert_close(
            torch.tensor(scores, dtype=torch.float32), model.match(images, texts, head=head).diagonal()
        )


def test_answers_and_embeddings(served) -> None:
    model = blip.load("models:/blip-captioning@champion")
    red = picture("red")
    answers = served.predict(pd.DataFrame({"image": [red], "question": TEXTS[2:]}), params={"task": "answer"})
    assert answers["prediction"].tolist() == model.answer([red], TEXTS[2:])
    for table, expected in (
        (pd.DataFrame({"image": [red]}), model.embed_images([red])),
        (pd.DataFrame({"text": TEXTS}), model.embed_texts(TEXTS)),
    ):
        vectors = served.predict(table, params={"task": "embed"})["prediction"].tolist()
        torch.testing.assert_close(torch.tensor(vectors), expected)


def test_a_server_takes_and_gives_what_the_documentation_says(served, monkeypatch) -> None:
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # as `init` does, and leaves it
    model = blip.load("models:/blip-captioning@champion")
    red = picture("red")
    asked = {"dataframe_records": [{"image": base64.b64encode(red).decode()}]}
    client = TestClient(scoring_server.init(served))

    answer = client.post("/invocations", json=asked)
    assert (answer.status_code, answer.json()) == (
        200,
        {"predictions": [{"prediction": model.caption([red], decoding="beam")[0]}]},
    )
    (found,) = client.post("/invocations", json=asked | {"params": {"task": "embed"}}).json()["predictions"]
    torch.testing.assert_close(torch.tensor([found["prediction"]]), model.embed_images([red]))
    refused = client.post("/invocations", json=asked | {"params": {"task": "translate"}})
    assert refused.status_code == 400 and "unknown task 'translate'" in refused.text


@pytest.mark.parametrize(
    ("table", "params", "message"),
    [
        (
            {"image": [b""]},
            {"task": "translate"},
            "unknown task 'translate'; this model does: caption, match",
        ),
        (
            {"text": ["a"]},
            {"task": "caption"},
            "task 'caption' needs the column 'image'; the table has: text",
        ),
        ({"image": ["no such file!"]}, {}, "row 0: image 'no such file!' is not base64"),
        (
            {"image": [b"no picture"]},
            {},
            "row 0: image is unusable: not_an_image: 10 bytes that begin with b'no",
        ),
    ],
)
def test_a_bad_request_is_explained(served, table: dict, params: dict, message: str) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=message):
        served.predict(pd.DataFrame(table), params=params)


ELSEWHERE = """
import json, sys
sys.path[:] = [entry for entry in sys.path if entry != sys.argv[2]]
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
import blip
assert blip.__file__.startswith(sys.argv[1]), blip.__file__
description = mlflow.models.Model.load(sys.argv[1])
request = description.load_input_example(sys.argv[1]), description.load_input_example_params(sys.argv[1])
print(json.dumps(model.predict(*request)["prediction"].tolist()))
"""


def test_a_version_answers_its_example_with_the_code_it_carries(folder: Path, tmp_path: Path) -> None:
    """In a process that finds no blip but the one beside the weights."""
    model = next((folder / "mlruns/models").glob("*/artifacts"))
    command = [sys.executable, "-I", "-c", ELSEWHERE, str(model), str(PARAMS.parent)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout.splitlines()[-1])[0], str)


def test_small_pictures_in_base64_are_no_file_names(opened, photos: Path) -> None:
    """Some begin with more characters without a slash than a name may have."""
    encoded = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        buffer = BytesIO()
        Image.fromarray(random.integers(0, 256, (*random.integers(8, 24, 2), 3), dtype=np.uint8)).save(
            buffer, "PNG"
        )
        encoded.append(base64.b64encode(buffer.getvalue()).decode())
    long = [text for text in encoded if len(text.partition("/")[0]) > 255]
    assert long
    model = opened(images_root=str(photos))
    assert len(model.predict(pd.DataFrame({"image": long}), params={"task": "embed"})) == len(long)


def test_the_requirements_cover_what_is_imported_where_the_model_is_served() -> None:
    """Every package that our modules import by themselves once a model is open, or one that brings it along."""
    script = "import blip.model.api, blip.model.two_images, sys; print(*(m for m in sys.modules if m[:5] == 'blip.'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    of_module = packages_distributions()
    imported = {name for module in done.stdout.split() for name in imports_of(module)}
    wanted = {canonicalize_name(of_module[name][0]) for name in imported if name in of_module} - {"blip"}
    covered, left = set(), [Requirement(line).name for line in packaging.requirements()]
    while left:
        name = canonicalize_name(left.pop())
        if name not in covered:
            covered.add(name)
            needs = map(Requirement, distribution(name).requires or ())
            left += [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert {"torch", "simplejpeg"} <= wanted
    assert wanted <= covered, f"{sorted(wanted - covered)} are imported and in nobody's requirements"


def imports_of(module: str) -> set[str]:
    """The packages that a module imports at its top, but not those that it can do without."""
    file = find_spec(module).origin  # type: ignore[union-attr]
    names: set[str] = set()
    for node in ast.parse(Path(file).read_text()).body:  # type: ignore[arg-type]
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names

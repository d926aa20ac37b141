"""A model directory that was cut short, or that somebody wrote otherwise, is refused with its file, field and value.

One that was written here is for whom the umask says.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from blip.errors import BlipError
from blip.model.api import Blip
from blip.model.checkpoints import ModelCard, save_model
from tests import tiny
from tests.accounts import as_nobody


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory with random weights."""
    save_model(tiny.network(), tiny.tokenizer(), tmp_path / "model", ModelCard())
    return tmp_path / "model"


def refused(directory: Path) -> str:
    with pytest.raises(BlipError) as caught:
        Blip.open(directory)
    return str(caught.value)


@pytest.mark.parametrize("size", [0, 1_000, -1])
def test_weights_that_were_cut_are_named(directory: Path, size: int) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    told = refused(directory)
    assert told.startswith(f"{path} of {path.stat().st_size:,} bytes is truncated or damaged")
    assert told.endswith("; copy it again")


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_all_files_are_for_whom_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        tiny.save(tmp_path / "model", 1)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask)


def test_weights_that_this_account_may_not_read_are_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "model.safetensors").chmod(0)
    monkeypatch.chdir(directory)
    with as_nobody():
        told = refused(Path())
    assert told == (
        "model.safetensors cannot be read by this account; whose it is can allow it: chmod a+r model.safetensors"
    )


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_a_configuration_without_names_is_refused(directory: Path, text: str) -> None:
    (directory / "config.json").write_text(text)
    found = {"null": "None"}.get(text, text)
    assert refused(directory) == f"{directory}/config.json: the whole file is {found}, not names with values"


@pytest.mark.parametrize(
    ("section", "name", "value", "told"),
    [
        (None, "blip", [], "blip is [], not names with values"),
        (None, "text_config", None, "text_config is None, not names with values"),
        (None, "image_text_hidden_size", "16", "image_text_hidden_size is '16'; it is a whole number"),
        ("vision_config", "num_attention_heads", 0, "is 0; it is a whole number from 1 on"),
        ("vision_config", "hidden_size", 0, "is 0; it is a whole number from 1 on"),
        ("vision_config", "patch_size", 0, "is 0; it is a whole number from 1 on"),
        ("vision_config", "image_size", None, "is None; it is a whole number from 1 on"),
        ("vision_config", "image_size", [32, 48], "is [32, 48]; this network takes square images only"),
        ("vision_config", "image_size", [], "is []; it is a whole number from 1 on"),
        ("vision_config", "layer_norm_eps", "small", "is 'small'; it is a number from 0 to below 1"),
        ("text_config", "hidden_size", "32", "is '32'; it is a whole number from 1 on"),
        ("text_config", "num_hidden_layers", True, "is True; it is a whole number from 1 on"),
        ("text_config", "intermediate_size", 33, "is 33; that is no multiple of hidden_size"),
        ("text_config", "hidden_act", 3, "is 3; it is a text"),
        ("blip", "max_tokens", "30", "is '30'; it is a whole number from 3 on"),
        ("blip", "prompt", None, "is None; it is a text"),
        ("blip", "tied", "no", "is 'no'; it is true or false"),
    ],
)
def test_a_value_of_another_kind_is_named(
    directory: Path, section: str | None, name: str, value: Any, told: str
) -> None:
    path = directory / "config.json"
    values = json.loads(path.read_text())
    (values[section] if section else values)[name] = value
    path.write_text(json.dumps(values))
    field = f"{section}.{name} " if section else ""
    assert refused(directory).startswith(f"{path}: {field}{told}")

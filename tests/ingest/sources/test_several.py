"""Several sources in one dataset, and the command that reads them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from blip.cli import app
from blip.config import Ingest, Source
from blip.data.pairs import PairsDataset
from blip.errors import BadArguments
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.sources import names_of
from blip.inspection.verification import verify
from tests.data.conftest import draw, encoded

from .reading import write

SETTINGS = Ingest(datasets={}, max_bad_fraction=0.5)


def pool(path: Path, first: int) -> Path:
    """A folder of pictures a to c with a table."""
    write(path / "captions.csv", "image,caption", *(f"{name}.png,text {name}" for name in "abc"))
    for number, name in enumerate("abc", first):
        (path / f"{name}.png").write_bytes(encoded(draw(number)))
    return path


def source(path: Path, **fields: object) -> Source:
    values = {"source": str(path), "kind": "table", "origin": "web", "role": "train"} | fields
    return Source.model_validate(values)


def keys(dataset: PairsDataset) -> list[str]:
    return dataset.metadata(["key"])["key"].to_pylist()


def test_keys_begin_with_the_name_of_their_source(tmp_path: Path) -> None:
    sources = [
        source(pool(tmp_path / name, first)) for name, first in (("x/one", 0), ("two.d", 3), ("y/one", 6))
    ]
    dataset = ingest_dataset(sources, tmp_path / "out", SETTINGS)
    assert keys(dataset) == [f"{name}-{key}" for name in ("one1", "two", "one3") for key in "abc"]
    assert dataset.manifest.parents == [str(tmp_path / name) for name in ("x/one", "two.d", "y/one")]
    assert [told["kind"] for told in dataset.manifest.parameters["sources"]] == ["table"] * 3
    assert verify(dataset) == []


def test_a_single_source_keeps_its_keys(tmp_path: Path) -> None:
    one = ingest_dataset(source(pool(tmp_path / "one", 0)), tmp_path / "out", SETTINGS)
    assert keys(one) == ["a", "b", "c"]
    assert "sources" not in one.manifest.parameters


def test_keys_that_meet_all_the_same_are_refused(tmp_path: Path) -> None:
    for folder, name in (("a", "b-c.png"), ("a-b", "c.png")):
        write(tmp_path / folder / "captions.csv", "image,caption", f"{name},text")
        (tmp_path / folder / name).write_bytes(encoded(draw(len(folder))))
    dataset = ingest_dataset([source(tmp_path / "a"), source(tmp_path / "a-b")], tmp_path / "out", SETTINGS)
    assert keys(dataset) == ["a-b-c"]
    assert dataset.manifest.quarantined == {"duplicate": 1}


def test_names_of_sources() -> None:
    assert names_of([source(Path("/data/my pairs.tar.gz"))]) == [""]
    one, two = names_of([source(Path("/data/a.csv")), source(Path("/data/b.parquet"))])
    assert (one, two) == ("a-", "b-")
    alike = [source(Path(name)) for name in ("a/train", "b/train", "c/train2", "d/train2")]
    assert names_of(alike) == ["train1-", "train2-", "train23-", "train24-"]
    assert len(set(names_of(alike[:3]))) == 3


def test_sources_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    one = source(pool(tmp_path / "one", 0))
    with pytest.raises(BadArguments, match="must have one origin"):
        ingest_dataset([one, source(tmp_path, origin="human")], tmp_path / "out", SETTINGS)
    with pytest.raises(BadArguments, match="lists of URLs cannot go into one dataset with pictures"):
        ingest_dataset([one, source(tmp_path, kind="urls")], tmp_path / "out", SETTINGS)


def test_the_command_takes_sources_of_different_kinds(tmp_path: Path) -> None:
    write(tmp_path / "list.tsv", "photo\twords", "a\tfrom the list")
    folder = pool(tmp_path / "pool", 0)
    arguments = ["ingest", tmp_path / "list.tsv", folder, "--images", folder, "--column", "image=photo"]
    arguments += ["--column", "caption=words", "--kind", "table", "--out", tmp_path / "out"]
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(ended.exception, Exception)  # the folder's columns are called otherwise
    assert "no column 'photo'; it has: image, caption" in str(ended.exception)

    images = [{"id": 7, "file_name": "a.png"}]
    value = {"images": images, "annotations": [{"image_id": 7, "id": 1, "caption": "from COCO"}]}
    write(tmp_path / "coco/annotations/captions_val2017.json", json.dumps(value))
    (tmp_path / "coco/val2017").mkdir()
    (tmp_path / "coco/val2017/a.png").write_bytes(encoded(draw(9)))
    arguments = ["ingest", tmp_path / "coco", folder, "--out", tmp_path / "out", "--workers", "1", "--json"]
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert ended.exit_code == 0, ended.output
    table = pq.read_table(tmp_path / "out/metadata.parquet").to_pylist()
    assert [(row["key"], row["caption"]) for row in table] == [
        ("coco-a", "from COCO"),
        ("pool-a", "text a"),
        ("pool-b", "text b"),
        ("pool-c", "text c"),
    ]


def test_a_column_is_written_as_name_equals_name(tmp_path: Path) -> None:
    folder = pool(tmp_path / "pool", 0)
    for column in ("photo", "picture=photo", "image="):
        arguments = ["ingest", str(folder), "--out", str(tmp_path / "out"), "--column", column]
        ended = CliRunner().invoke(app, arguments)
        assert isinstance(ended.exception, BadArguments)
        assert "write image=NAME or caption=NAME" in str(ended.exception)


def test_a_setting_that_is_a_list_says_how_to_write_one(tmp_path: Path) -> None:
    write(tmp_path / "u.csv", "url,caption", "http://127.0.0.1:9/a.jpg,x")
    command = ["ingest", str(tmp_path / "u.csv"), "--out", str(tmp_path / "out")]
    for value, told in (("127.0.0.1", "takes a list"), ("[127.0.0.1]", "no sample is left of 1 (1 connect)")):
        ended = CliRunner().invoke(app, [*command, "--set", f"download.networks={value}"])
        assert told in str(ended.exception)


def test_black_and_white_the_wrong_way_round_are_refused(tmp_path: Path) -> None:
    command = ["ingest", str(pool(tmp_path / "pool", 0)), "--out", str(tmp_path / "out"), "--origin", "web"]
    ended = CliRunner().invoke(app, [*command, "--grey-range", "4095", "-1000"])
    assert isinstance(ended.exception, BadArguments)
    assert "grey_range: [4095.0, -1000.0] has to be the value of black and a higher" in str(ended.exception)
    assert CliRunner().invoke(app, [*command, "--grey-range", "-1000", "3000"]).exit_code == 0
    assert PairsDataset.open(tmp_path / "out").manifest.parameters["grey_range"] == [-1000, 3000]

"""What ingest makes of a source is known: what makes something else of it is of another format."""

import shutil
import tarfile
from pathlib import Path

from blip.config import Ingest, Source
from blip.data.archive import add_member
from blip.data.kept import digest_of
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.origins import FORMAT

SAMPLE = Path(__file__).parents[2] / "data/sample"
MADE = {1: "09426bf016c7ca841c9cc36e0c87e3d6d42028ba9e3e59a379d8fa515095a10a"}  # by format
WORDS = ("a  <b>dog</b> &amp; a cat", "caf\u00e9", "", "bell\x07")


def test_another_dataset_of_the_same_source_is_of_another_format(tmp_path: Path) -> None:
    """If this fails, what ingest makes has changed: raise FORMAT of blip/ingest/origins.py and note it here."""
    with tarfile.open(SAMPLE / "test/images.tar") as tar, tarfile.open(tmp_path / "images.tar", "w") as few:
        names = sorted(tar.getnames())[:8]
        for name in names:
            member = tar.extractfile(name)
            assert member
            data = member.read()
            add_member(few, name, data[:100] if name == names[5] else data)
    rows = [f'{name},"{WORDS[number % 4]}"\n{name},"one, {number}"\n' for number, name in enumerate(names)]
    (tmp_path / "captions.csv").write_text("image,caption\n" + "".join(rows), encoding="utf-8")
    shutil.copy(SAMPLE / "test/truth.csv", tmp_path)
    source = Source(source=str(tmp_path), kind="table", origin="web", role="train")
    settings = Ingest(samples_per_shard=3, max_bad_fraction=0.5, datasets={})
    dataset = ingest_dataset(source, tmp_path / "out", settings)
    table = dataset.metadata().drop_columns(["phash"])  # decoders may differ in a bit
    made = digest_of([*dataset.manifest.shards, dataset.manifest.quarantined, *table.to_pylist()])
    assert {FORMAT: made} == {FORMAT: MADE[FORMAT]}

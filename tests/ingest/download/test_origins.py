"""What was fetched is not fetched again while its list has the same rows."""

import json
import os
from pathlib import Path

from blip.config import Download, Ingest, Source
from blip.data.pairs import PairsDataset
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.origins import is_as_made, said_of
from blip.inspection.verification import verify

from .conftest import Server


def test_a_list_that_was_copied_and_a_note_that_is_lost_fetch_nothing_again(
    server: Server, settings: Download, tmp_path: Path
) -> None:
    rows = [{"url": f"{server.url}/good/{number}.jpg", "caption": "x"} for number in range(3)]
    path, target = tmp_path / "list.json", tmp_path / "out"
    path.write_text(json.dumps(rows))
    source = Source(source=str(path), kind="urls", origin="web", role="train")
    how = Ingest(datasets={}, download=settings)
    ingest_dataset(source, target, how, origins=said_of(source, how, None))
    assert verify(PairsDataset.open(target)) == []
    os.utime(path, (0, 0))
    assert is_as_made(target, source, how, None)
    assert is_as_made(target, source, how.model_copy(update={"max_bad_fraction": 0.5}), None)
    assert not is_as_made(target, source, how.model_copy(update={"max_pixels": 99}), None)
    path.write_text(json.dumps(rows[:2]))
    assert not is_as_made(target, source, how, None)
    path.write_text(json.dumps(rows))
    (target / "shards/00000.tar").unlink()
    assert not is_as_made(target, source, how, None)

"""What a finished dataset lacks because a server was silent or busy is asked for again, and nothing else."""

import json
import socket
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from blip.config import Download, load_settings
from blip.data.pairs import PairsDataset
from blip.inspection.verification import verify
from blip.stages import ingest
from blip.tracking.runs import StageRun

from .conftest import Server

PARAMS = Path(__file__).parents[3] / "params.yaml"
PATIENT = {"connect_seconds": 10.0, "read_seconds": 10.0, "total_seconds": 60.0, "retries": 0}


def test_what_could_not_be_reached_or_was_busy_is_asked_for_again_and_no_other(
    server: Server, settings: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.url.rsplit(":", 1)[1]
    urls = [f"{server.url}/good/{number}.jpg" for number in range(25)]
    for number in (3, 14, 24):
        urls[number] = f"http://later.test:{port}/good/{number}.jpg"
    urls[7] = f"{server.url}/fault/missing/7.jpg"
    urls[12] = f"{server.url}/fault/once_busy/12.jpg"
    rows = [{"url": url, "caption": [f"picture {number}"]} for number, url in enumerate(urls)]
    rows[5]["caption"] += ["seen", "bell\a"]  # of which one is left out
    (tmp_path / "list.json").write_text(json.dumps(rows))
    real, is_up = socket.getaddrinfo, False

    def resolve(host: str, *rest: object, **more: object) -> object:
        if host == "later.test" and not is_up:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        known = "127.0.0.1" if host == "later.test" else host
        return real(known, *rest, **more)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def run(again: bool) -> PairsDataset:
        web = {"source": "list.json", "kind": "urls", "origin": "web", "role": "train"}
        changes = {
            "ingest.datasets": {"web": web},
            "ingest.samples_per_shard": 10,
            "ingest.vocabulary.size": 100,
            "ingest.download": settings.model_dump(mode="json") | PATIENT | {"again": again},
        }
        ingest.run(load_settings(PARAMS, overrides=changes), cast(StageRun, None), None)
        return PairsDataset.open("data/datasets/web")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("BLIP_WORKERS", "1")
    monkeypatch.chdir(tmp_path)
    lost = {"control_characters": 1, "dns": 3, "http_404": 1, "http_503": 1}
    assert run(again=False).manifest.quarantined == lost
    is_up, before = True, Counter(server.seen)
    assert run(again=False).manifest.quarantined == lost
    assert server.seen == before
    for _ in range(2):  # the second time there is nothing to ask for
        dataset = run(again=True)
        assert dataset.manifest.quarantined == {"control_characters": 1, "http_404": 1}
        asked = [*(f"/good/{number}.jpg" for number in (3, 14, 24)), "/fault/once_busy/12.jpg"]
        assert server.seen - before == Counter(asked)
    assert [sample.url for sample in dataset.samples()] == [url for url in urls if "missing" not in url]
    assert [len(sample.captions) for sample in dataset.samples()] == [1] * 5 + [2] + [1] * 18
    assert verify(dataset) == []

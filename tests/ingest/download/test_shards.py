"""A list of URLs becomes a dataset; everything is accounted for, whatever happens on the way."""

import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from blip.config import Download, Ingest, Source, load_settings
from blip.data.pairs import PairsDataset
from blip.errors import BlipError
from blip.ingest.download.shards import download_jobs
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.shards import ShardJob, write_shard
from blip.ingest.sources.urls import Address
from blip.inspection.verification import verify
from blip.validation import validate
from tests.processes import running, wait_until_stopped

from .conftest import Server
from .server import BECOMES, picture

COUNT = 120
QUICK = {kind: reason for kind, reason in BECOMES.items() if kind not in ("silent", "drip")}


def urls(server: Server) -> list[tuple[str, str | None]]:
    """Every third one a fault, with the reason it becomes."""
    kinds, found = list(QUICK.items()), []
    for number in range(COUNT):
        if number % 3 == 1:
            kind, reason = kinds[number // 3 % len(kinds)]
            found.append((f"{server.url}/fault/{kind}/{number}.jpg", reason))
        else:
            found.append((f"{server.url}/good/{number}.jpg", None))
    return found


@pytest.fixture
def source(server: Server, tmp_path: Path) -> Source:
    rows = [{"url": url, "caption": f"picture {n}"} for n, (url, _) in enumerate(urls(server))]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    return Source(source=str(tmp_path / "list.json"), kind="urls", origin="web", role="train")


def ingest_settings(download: Download) -> Ingest:
    return Ingest(samples_per_shard=10, datasets={}, download=download)


def shard_job() -> ShardJob:
    rows = [Address("000000000", "http://example.org/a.jpg", "x")]
    return ShardJob(Path("nowhere"), 0, rows, "web", 1, None)


def test_every_row_is_a_sample_or_has_its_reason(
    server: Server, source: Source, settings: Download, tmp_path: Path
) -> None:
    dataset = ingest_dataset(source, tmp_path / "out", ingest_settings(settings))
    wanted = urls(server)
    reasons = Counter(reason for _, reason in wanted if reason)
    assert dataset.manifest.quarantined == dict(sorted(reasons.items()))
    samples = list(dataset.samples())
    kept = [n for n, (_, reason) in enumerate(wanted) if reason is None]
    assert [sample.key for sample in samples] == [f"{n:09d}" for n in kept]
    assert [sample.url for sample in samples] == [wanted[n][0] for n in kept]
    assert all(sample.media == picture(n) for sample, n in zip(samples, kept, strict=True))
    assert dataset.metadata(["url"])["url"].to_pylist() == [wanted[n][0] for n in kept]
    rows = pq.read_table(dataset.path / "quarantine/index.parquet").to_pylist()
    assert {row["key"]: row["reason"] for row in rows} == {
        f"{n:09d}": reason for n, (_, reason) in enumerate(wanted) if reason
    }
    assert verify(dataset) == []


def test_lists_that_share_their_pictures_are_a_dataset_each(
    server: Server, settings: Download, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As BLIP's filtered and synthetic captions, of which some pictures have one and some the other."""
    texts = {"filtered": range(18), "synthetic": range(2, 20)}
    for name, numbers in texts.items():
        (tmp_path / f"{name}/list.json").parent.mkdir()
        rows = [{"url": f"{server.url}/good/{n}.jpg", "caption": f"a {name} text {n}"} for n in numbers]
        (tmp_path / f"{name}/list.json").write_text(json.dumps(rows))
    web = Source(source=str(tmp_path / "filtered/list.json"), kind="urls", origin="web", role="train")
    written = web.model_copy(update={"source": str(tmp_path / "synthetic/list.json"), "origin": "synthetic"})
    made = {
        name: (ingest_dataset(source, tmp_path / "out" / name, ingest_settings(settings)), source)
        for name, source in (("web", web), ("synthetic", written))
    }
    assert "note" not in capsys.readouterr().err
    thresholds = load_settings(Path("params.yaml")).validate_.model_copy(update={"min_samples": 18})
    verdicts = validate(made, thresholds, tmp_path / "pages")
    assert [(verdict.passed, verdict.excluded) for verdict in verdicts] == [(True, 0), (True, 0)]
    origins = [
        {caption.origin for s in dataset.samples() for caption in s.captions} for dataset, _ in made.values()
    ]
    assert origins == [{"web"}, {"synthetic"}]

    two = [web, written.model_copy(update={"origin": "web"})]
    mixed = ingest_dataset(two, tmp_path / "out/mixed", ingest_settings(settings))
    assert "synthetic/list.json has pictures of" in capsys.readouterr().err
    (verdict,) = validate({"mixed": (mixed, web)}, thresholds, tmp_path / "pages")
    problem = verdict.problems[0]
    assert problem.startswith("max_duplicate_share: at most 5% of the files came before; observed 16 of 36")
    assert problem.endswith("lists of URLs that share their pictures are a dataset each")


AGAIN = """
import os, signal, sys
from pathlib import Path
from blip.config import Download, Ingest, Source
from blip.ingest.download import shards
from blip.ingest.ingestion import ingest_dataset

def stopping(job, write=shards.write_shard):
    if job.number == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return write(job)

shards.write_shard = stopping
source = Source(source=sys.argv[1], kind="urls", origin="web", role="train")
download = Download.model_validate_json(sys.argv[3])
ingest_dataset(source, Path(sys.argv[2]), Ingest(samples_per_shard=10, datasets={}, download=download))
"""


def test_kill_9_and_again_fetches_no_finished_shard(
    server: Server, source: Source, settings: Download, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", AGAIN, source.source, str(tmp_path / "out"), settings.model_dump_json()]
    with running(command, cwd=Path.cwd()) as process:
        wait_until_stopped(process)
    done = {int(path.stem) for path in (tmp_path / ".out.partial/parts").glob("*.json")}
    assert done == {0, 1, 2}
    parts = tmp_path / ".out.partial/parts"
    table = (parts / "00002.metadata.parquet").read_bytes()
    # As if killed while it was written
    (parts / "00003.metadata.parquet").write_bytes(table[: len(table) // 2])
    server.seen.clear()
    dataset = ingest_dataset(source, tmp_path / "out", ingest_settings(settings))
    asked = {int(path.rsplit("/", 1)[1].removesuffix(".jpg")) // 10 for path in server.seen}
    assert not asked & done
    assert len(dataset) + sum(dataset.manifest.quarantined.values()) == COUNT
    assert [sample.key for sample in PairsDataset.open(dataset.path).samples()] == [
        f"{n:09d}" for n, (_, reason) in enumerate(urls(server)) if reason is None
    ]


def test_an_address_that_is_no_unicode_is_set_aside(
    server: Server, settings: Download, tmp_path: Path
) -> None:
    port = server.url.rsplit(":", 1)[1]
    urls = [
        f"http://127.0.0.1{more}" for more in (f":{port}/good/1.jpg", "\ud83d/1.jpg", f":{port}/good/2.jpg")
    ]
    rows = [{"url": url, "caption": "x"} for url in urls]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = Source(source=str(tmp_path / "list.jsonl"), kind="urls", origin="web", role="train")
    dataset = ingest_dataset(source, tmp_path / "out", ingest_settings(settings))
    assert (len(dataset), dataset.manifest.quarantined) == (2, {"bad_url": 1})


def test_limits_are_those_of_all_workers_together(settings: Download) -> None:
    wide = settings.model_copy(update={"connections": 100, "connections_per_host": 3, "seconds_between": 0.5})
    (job,) = download_jobs([shard_job()], wide, per_shard=1, workers=4)
    shared = job.settings
    assert (shared.connections, shared.connections_per_host, shared.seconds_between) == (25, 1, 2.0)


def test_jobs_are_long_and_the_last_are_even(settings: Download) -> None:
    shards = [replace(shard_job(), number=number) for number in range(25)]
    jobs = list(download_jobs(iter(shards), settings, per_shard=5000, workers=3))
    assert [[shard.number for shard in job.shards] for job in jobs] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23], [24],
    ]  # fmt: skip
    assert [len(job.shards) for job in download_jobs(iter(shards[:8]), settings, 5000, 3)] == [3, 3, 2]
    assert [len(job.shards) for job in download_jobs(iter(shards), settings, 50_000, 3)] == [1] * 25


def test_an_address_is_not_written_without_its_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has not been fetched"):
        write_shard(replace(shard_job(), directory=tmp_path))


@pytest.mark.usefixtures("no_such_name")
def test_a_name_server_that_is_down_spoils_no_shard(
    server: Server, settings: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = ["good.test"] * 29 + ["pictures.test"] * 29 + [".no.host"] + ["good.test"]
    port = server.url.rsplit(":", 1)[1]
    rows = [{"url": f"http://{host}:{port}/good/{n}.jpg", "caption": "x"} for n, host in enumerate(hosts)]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows))
    source = Source(source=str(path), kind="urls", origin="web", role="train")
    slowly = settings.model_copy(update={"connections": 1})  # so that the first shard is there by then
    some = Ingest(samples_per_shard=29, datasets={}, download=slowly)
    real, goes_down = socket.getaddrinfo, True
    is_down = False

    def resolve(host: str, *rest: object, **more: object) -> object:
        nonlocal is_down
        is_down = goes_down and (is_down or host == "pictures.test")
        if is_down and host.endswith(".test"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        known = "127.0.0.1" if host in ("good.test", "pictures.test") else host
        return real(known, *rest, **more)  # pyright: ignore[reportCallIssue, reportArgumentType]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(BlipError, match=r"none of the 29 URLs of shard 1 could be reached; the last: dns"):
        ingest_dataset(source, tmp_path / "out", some)
    assert "00001" not in {path.stem for path in (tmp_path / ".out.partial/parts").glob("*.json")}
    goes_down = False
    dataset = ingest_dataset(source, tmp_path / "out", some)
    assert (len(dataset), dataset.manifest.quarantined) == (59, {"bad_url": 1})


@pytest.fixture
def dead() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_a_dead_host_holds_no_list_up(server: Server, dead: str, settings: Download, tmp_path: Path) -> None:
    source = listed(tmp_path / "list.json", [*of_a_shard(dead), *of_a_shard(f"{server.url}/good")])
    dataset = ingest_dataset(source, tmp_path / "out", at_once(settings))
    assert (len(dataset), dataset.manifest.quarantined) == (25, {"connect": 25})
    assert server.seen["/good/0.jpg"] == 1 + 1  # asked again whether it was the network


def test_a_dead_host_holds_no_list_up_whose_other_shards_are_there(
    server: Server, dead: str, settings: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = listed(tmp_path / "list.json", [*of_a_shard(f"{server.url}/good"), *of_a_shard(dead)])
    with monkeypatch.context() as patch, pytest.raises(BlipError, match="25 URLs of shard 1"):
        patch.setattr("blip.ingest.download.shards.is_connected", lambda *_: False)
        ingest_dataset(source, tmp_path / "out", at_once(settings))
    assert len(ingest_dataset(source, tmp_path / "out", at_once(settings))) == 25


def of_a_shard(place: str) -> list[str]:
    """URLs for a shard of `at_once`."""
    return [f"{place}/{n}.jpg" for n in range(25)]


def at_once(settings: Download) -> Ingest:
    """Shards of 25 whose pictures are asked for once."""
    quick = settings.model_copy(update={"retries": 0})
    return Ingest(samples_per_shard=25, datasets={}, download=quick)


def listed(path: Path, urls: list[str]) -> Source:
    path.write_text(json.dumps([{"url": url, "caption": "x"} for url in urls]))
    return Source(source=str(path), kind="urls", origin="web", role="train")


def test_an_address_that_is_never_asked_hides_no_server_that_is_down(
    server: Server, settings: Download, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{closed.getsockname()[1]}"
        urls = [f"{down}/{number}.jpg" for number in range(25)]
        source = listed(
            tmp_path / "list.json", [*urls, "http:///malformed.jpg", "http://10.0.0.7/inside.jpg"]
        )
        quick = Ingest(datasets={}, download=settings.model_copy(update={"retries": 0}))
        with pytest.raises(
            BlipError, match=r"none of the 25 URLs of shard 0 could be reached; the last: connect"
        ):
            ingest_dataset(source, tmp_path / "out", quick)
    assert not list((tmp_path / ".out.partial/parts").glob("*.json"))


def test_nothing_is_kept_of_a_run_that_left_no_sample_and_it_says_why(
    server: Server, settings: Download, tmp_path: Path
) -> None:
    urls = [f"{server.url}/fault/{kind}/1.jpg" for kind in ("missing", "missing", "html")]
    source = listed(tmp_path / "list.json", urls)
    with pytest.raises(BlipError) as caught:
        ingest_dataset(source, tmp_path / "out", Ingest(datasets={}, download=settings))
    assert "no sample is left of 3 (2 http_404, 1 not_an_image). The first:" in str(caught.value)
    assert "000000000: http_404, http://127.0.0.1" in str(caught.value)
    assert not (tmp_path / ".out.partial").exists()


def test_networks_that_are_allowed_later_are_asked(
    server: Server, settings: Download, tmp_path: Path
) -> None:
    good = [f"{server.url}/good/{number}.jpg" for number in range(3)]
    source = listed(tmp_path / "list.json", [*good, "http://127.0.0.2:9/a.jpg", ""])
    strict = Ingest(datasets={}, max_bad_fraction=0, download=settings)
    for networks, reason in ((("127.0.0.1",), "refused_address"), (("127.0.0.0/8",), "connect")):
        download = settings.model_copy(update={"networks": networks})
        with pytest.raises(BlipError, match="1 no_url"):
            ingest_dataset(source, tmp_path / "out", strict.model_copy(update={"download": download}))
        (rows,) = (tmp_path / ".out.partial/parts").glob("*.quarantine.parquet")
        assert pq.read_table(rows)["reason"].to_pylist() == [reason, "no_url"]

"""Datasets of shards that a server hands out: the same as of a folder, and nothing is fetched twice."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from blip.config import Ingest, Source
from blip.data.jobs import open_pool
from blip.data.pairs import PairsDataset
from blip.data.quarantine import read_quarantine
from blip.errors import BlipError
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.origins import is_as_made, note_of
from blip.ingest.remote.ledger import LEDGER
from blip.inspection.verification import verify
from tests.ingest.sources.test_webdataset import write_img2dataset
from tests.processes import running, wait_until

from .conftest import PER_SHARD, SHARDS, Server, remote

NAMES = [f"{number:05d}.tar" for number in range(SHARDS)]
PER_PART = 5
LENIENT = {"max_bad_fraction": 0.5}
CHILD = """
import sys
from pathlib import Path
from blip.config import Download, Ingest, Source
from blip.ingest.ingestion import ingest_dataset
source = Source(source=sys.argv[1], kind="webdataset", origin="web", role="train")
patience = Download.model_validate({"read_seconds": 100})
settings = {"samples_per_shard": 5, "max_bad_fraction": 0.5, "download": patience, "datasets": {}}
ingest_dataset(source, Path(sys.argv[2]), Ingest.model_validate(settings))
"""


def of_folder(server: Server, target: Path, settings: Ingest) -> PairsDataset:
    source = Source(source=str(server.folder), kind="webdataset", origin="web", role="train")
    return ingest_dataset(source, target, settings)


def files_of(dataset: PairsDataset) -> dict[str, bytes]:
    """All but the manifest, which names the source."""
    files = (path for path in dataset.path.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(dataset.path)): path.read_bytes() for path in files}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_dataset_is_that_of_the_same_shards_in_a_folder(
    server: Server, tmp_path: Path, settings: Ingest, workers: int
) -> None:
    local = of_folder(server, tmp_path / "local", settings)
    with open_pool(workers=workers) as pool:
        made = ingest_dataset(remote(server.url), tmp_path / "out", settings, pool=pool)
    assert len(made) == SHARDS * PER_SHARD and verify(made) == []
    assert files_of(made) == files_of(local)
    assert made.manifest.parents == [server.url]
    assert server.fetched == dict.fromkeys(NAMES, 1)
    assert [name for name in left_in(tmp_path) if not name.endswith(".lock")] == []


def test_one_tar_and_several_sources_are_read_as_from_a_folder(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    write_img2dataset(server.folder / "more", shards=2, per_shard=3)
    here = [server.folder / "00001.tar", server.folder / "more"]
    local = [remote(str(path)) for path in here]
    there = [remote(f"{server.url}00001.tar"), remote(f"{server.url}more/")]
    made = ingest_dataset(there, tmp_path / "out", settings)
    assert files_of(made) == files_of(ingest_dataset(local, tmp_path / "local", settings))
    assert len(made) == PER_SHARD + 6


def test_a_compressed_tar_is_refused_as_in_a_folder(server: Server, tmp_path: Path, settings: Ingest) -> None:
    (server.folder / "00001.tar.gz").write_bytes(b"\x1f\x8b")  # which begins as 00001.tar does
    lenient = settings.model_copy(update=LENIENT)
    made = ingest_dataset(remote(server.url), tmp_path / "out", lenient)
    assert made.manifest.quarantined == {"compressed_archive": 1} and len(made) == SHARDS * PER_SHARD
    assert server.fetched == dict.fromkeys(NAMES, 1) and server.seen["00001.tar.gz"] == 0
    assert files_of(made) == files_of(of_folder(server, tmp_path / "local", lenient))


def test_a_run_that_was_killed_fetches_no_finished_shard_again(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    out = tmp_path / "out"
    server.held = {"00004.tar"}
    with running([sys.executable, "-c", CHILD, server.url, str(out)]):
        wait_until(lambda: len(list(tmp_path.glob(".out.partial/parts/*.json"))) == 4 * PER_SHARD // PER_PART)
        assert len(list(tmp_path.glob(".out.partial/fetched/*.tar"))) <= 4
    server.held.clear()
    server.free.set()
    server.seen.clear()
    made = ingest_dataset(remote(server.url), out, settings)
    # five parts have 25 samples, of which the third shard has the last four; its other three are in none
    assert server.fetched == dict.fromkeys(NAMES[3:], 1)
    assert files_of(made) == files_of(of_folder(server, tmp_path / "local", settings))


def killed(server: Server, out: Path, held: str, parts: int, noted: str = "") -> None:
    """A run that is killed while a shard does not come, with so many parts finished and something in its ledger."""
    folder = out.parent / f".{out.name}.partial"
    server.free.clear()
    server.held = {held}
    with running([sys.executable, "-c", CHILD, server.url, str(out)]):
        wait_until(lambda: server.seen[held] > 0 and len(list(folder.glob("parts/*.json"))) >= parts)
        wait_until(lambda: not noted or noted in (folder / LEDGER).read_text())
    server.held.clear()
    server.free.set()
    server.seen.clear()


def test_two_ends_in_a_row_lose_no_sample_and_give_none_twice(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    out = tmp_path / "out"
    killed(server, out, "00004.tar", 4 * PER_SHARD // PER_PART)  # four of the fourth shard are in a part
    killed(server, out, "00003.tar", 0)
    made = ingest_dataset(remote(server.url), out, settings)
    assert server.fetched == dict.fromkeys(NAMES[3:], 1)
    assert files_of(made) == files_of(of_folder(server, tmp_path / "local", settings))


def test_a_shard_that_comes_no_second_time_is_counted_by_every_run(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    out = tmp_path / "out"
    killed(server, out, "00004.tar", 4 * PER_SHARD // PER_PART)
    server.answers["00003.tar"] = 404
    killed(server, out, "00004.tar", 0, noted='"failed": "00003.tar')
    made = ingest_dataset(remote(server.url), out, settings.model_copy(update=LENIENT))
    assert made.manifest.quarantined == {"not_fetched": 1}
    assert len(made) == (SHARDS - 1) * PER_SHARD + 4


def interrupted(server: Server, target: Path, settings: Ingest) -> None:
    """A run that ends at the fifth shard, with all that is before it in finished parts."""
    server.answers["00004.tar"] = 503
    with pytest.raises(BlipError, match=r"1 of \d shards did not come, more than ingest\.max_bad_fraction"):
        ingest_dataset(remote(server.url), target, settings)
    server.answers.clear()
    server.seen.clear()


def test_a_shard_that_changed_meanwhile_is_read_again_with_what_follows(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    interrupted(server, tmp_path / "out", settings)
    write_img2dataset(tmp_path / "other", shards=SHARDS, per_shard=PER_SHARD - 1)
    (server.folder / NAMES[1]).write_bytes((tmp_path / "other" / NAMES[1]).read_bytes())
    os.utime(server.folder / NAMES[1], (1, 1))  # of the same size, and this server tells seconds
    made = ingest_dataset(remote(server.url), tmp_path / "out", settings)
    # The second part has samples of both
    assert server.fetched == dict.fromkeys(NAMES[1:], 1) | {NAMES[0]: 1}
    assert files_of(made) == files_of(of_folder(server, tmp_path / "local", settings))
    assert len(made) == SHARDS * PER_SHARD - 1


def test_a_shard_that_came_to_the_list_is_read_without_the_others(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    strict = settings.model_copy(update={"max_bad_fraction": 0.0})
    last = server.folder / NAMES[-1]
    kept = last.read_bytes()
    last.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(BlipError, match=r"1 of 6 files cannot be read to their end \(1 truncated_archive\)"):
        ingest_dataset(remote(server.url), tmp_path / "out", strict)
    last.write_bytes(kept)
    write_img2dataset(tmp_path / "more", SHARDS + 1, PER_SHARD)
    (tmp_path / "more/00006.tar").rename(server.folder / "00006.tar")
    server.seen.clear()
    made = ingest_dataset(remote(server.url), tmp_path / "out", strict)
    assert min(server.fetched) >= "00004.tar"
    assert files_of(made) == files_of(of_folder(server, tmp_path / "local", settings))


def test_when_all_is_read_a_raised_limit_fetches_nothing(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    whole = (server.folder / NAMES[2]).read_bytes()
    (server.folder / NAMES[2]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BlipError, match=r"1 of 6 files cannot be read to their end \(1 truncated_archive\)"):
        ingest_dataset(remote(server.url), tmp_path / "out", settings)
    server.seen.clear()
    made = ingest_dataset(remote(server.url), tmp_path / "out", settings.model_copy(update=LENIENT))
    assert server.fetched == {}
    [lost] = [one for one in read_quarantine(made.path) if one.reason == "truncated_archive"]
    assert f"{server.url}{NAMES[2]} cannot be read after" in lost.detail


def test_a_download_that_was_cut_is_tried_again(server: Server, tmp_path: Path, settings: Ingest) -> None:
    server.cut["00002.tar"] = 2
    made = ingest_dataset(remote(server.url), tmp_path / "out", settings)
    assert server.fetched["00002.tar"] == 3
    assert len(made) == SHARDS * PER_SHARD and made.manifest.quarantined == {}


@pytest.mark.parametrize(
    ("what", "why", "asked"),
    [
        ("cut", "asked 3 time", 3),
        ("longer", "over .* bytes came; it has changed", 3),
        ("gone", "it is not there", 1),
        ("forbidden", "the server answers 403", 1),
        ("broken", "the server answers 500", 3),
    ],
)
def test_a_shard_that_does_not_come_is_counted_and_the_others_are_read(
    server: Server, tmp_path: Path, settings: Ingest, what: str, why: str, asked: int
) -> None:
    server.cut["00002.tar"] = 99 if what == "cut" else 0
    server.longer = {"00002.tar"} if what == "longer" else set()
    server.gone = {"00002.tar"} if what == "gone" else set()
    server.answers = {"forbidden": {"00002.tar": 403}, "broken": {"00002.tar": 500}}.get(what, {})
    made = ingest_dataset(remote(server.url), tmp_path / "out", settings.model_copy(update=LENIENT))
    assert len(made) == (SHARDS - 1) * PER_SHARD
    assert made.manifest.quarantined == {"not_fetched": 1}
    [lost] = read_quarantine(made.path)
    assert lost.detail.startswith("00002.tar: ") and re.search(why, lost.detail)
    assert server.fetched["00002.tar"] == asked


def test_a_shard_that_did_not_come_is_asked_for_by_the_next_run(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    lenient = settings.model_copy(update={"max_bad_fraction": 0.2})  # one of six may be missing, not two
    server.answers = {"00001.tar": 500, "00004.tar": 500}
    with pytest.raises(BlipError, match="2 of 6 shards did not come"):
        ingest_dataset(remote(server.url), tmp_path / "out", lenient)
    server.seen.clear()
    del server.answers["00004.tar"]
    made = ingest_dataset(remote(server.url), tmp_path / "out", lenient)
    # The third shard ends in no part
    assert server.fetched == {"00001.tar": 3, **dict.fromkeys(NAMES[3:], 1)}
    assert len(made) == (SHARDS - 1) * PER_SHARD and made.manifest.quarantined == {"not_fetched": 1}


def test_a_finished_dataset_is_as_made_until_an_object_changes(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    source = remote(server.url)
    note = note_of(source, settings, None)
    ingest_dataset(source, tmp_path / "out", settings)
    note(tmp_path / "out")
    server.seen.clear()
    assert is_as_made(tmp_path / "out", source, settings, None)
    assert server.fetched == {}
    os.utime(server.folder / NAMES[3], (1, 1))
    assert not is_as_made(tmp_path / "out", source, settings, None)


def test_a_finished_dataset_is_as_made_whatever_a_server_cannot_say_for_a_moment(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    source = remote(server.url)
    server.busy[NAMES[2]] = 2
    note = note_of(source, settings, None)
    made = ingest_dataset(source, tmp_path / "out", settings)
    note(tmp_path / "out")
    assert made.manifest.quarantined == {}
    server.busy[NAMES[3]] = 2
    assert is_as_made(tmp_path / "out", source, settings, None)
    server.busy[NAMES[3]] = 99
    with pytest.raises(BlipError, match=r"00003\.tar: the server answers 503"):
        is_as_made(tmp_path / "out", source, settings, None)


def test_other_limits_of_texts_begin_anew(server: Server, tmp_path: Path, settings: Ingest) -> None:
    interrupted(server, tmp_path / "out", settings)
    short = settings.model_copy(update={"max_caption_chars": 5, "max_bad_fraction": 1.0})
    with pytest.raises(BlipError, match="no sample is left"):
        ingest_dataset(remote(server.url), tmp_path / "out", short)
    assert server.fetched == dict.fromkeys(NAMES, 1)


def test_names_that_lead_out_of_the_folder_are_refused(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    elsewhere = ["../out.tar", "%2e%2e/out.tar", "/00005.tar", "http://example.org/x.tar"]
    links = "".join(f'<a href="{name}">{name}</a>' for name in [*NAMES[:2], *elsewhere])
    server.page = f"<html>{links}</html>"
    made = ingest_dataset(remote(server.url), tmp_path / "out", settings.model_copy(update=LENIENT))
    assert {lost.reason for lost in read_quarantine(made.path)} == {"unsafe_member"}
    assert server.fetched == dict.fromkeys([*NAMES[:2], "00005.tar"], 1)  # which lies in the folder, too
    assert len(made) == 3 * PER_SHARD


def test_a_refused_name_stays_one_when_a_run_goes_on(
    server: Server, tmp_path: Path, settings: Ingest
) -> None:
    server.page = "".join(f'<a href="{name}">' for name in ["../out.tar", *NAMES])
    interrupted(server, tmp_path / "out", settings.model_copy(update={"max_bad_fraction": 0.1}))
    made = ingest_dataset(remote(server.url), tmp_path / "out", settings.model_copy(update=LENIENT))
    assert made.manifest.quarantined == {"unsafe_member": 1}
    assert min(server.fetched) == "00003.tar" and len(made) == SHARDS * PER_SHARD


def test_nothing_of_a_password_is_written(
    server: Server, tmp_path: Path, settings: Ingest, capfd: pytest.CaptureFixture[str]
) -> None:
    server.login = "reader:pa55word"
    server.gone = {"00002.tar"}
    address = server.url.replace("http://", "http://reader:pa55word@")
    source = remote(address)
    with pytest.raises(BlipError) as refused:
        ingest_dataset(source, tmp_path / "out", settings)
    written = [*(tmp_path / ".out.partial").rglob("*"), tmp_path / ".out.partial.lock"]
    made = ingest_dataset(source, tmp_path / "out", settings.model_copy(update=LENIENT))
    assert len(made) == (SHARDS - 1) * PER_SHARD
    kept = [path.read_bytes() for path in (*tmp_path.rglob("*"), *written) if path.is_file()]
    texts = [str(refused.value), repr(source), json.dumps(source.model_dump()), *capfd.readouterr()]
    assert not any(b"pa55word" in text or b"reader:" in text for text in [*kept, *map(str.encode, texts)])
    assert made.manifest.parameters["source"] == server.url


def test_a_signature_is_sent_and_not_written(server: Server, tmp_path: Path, settings: Ingest) -> None:
    source = remote(f"{server.url}00001.tar?X-Amz-Signature=5ecret")
    made = ingest_dataset(source, tmp_path / "out", settings)
    assert len(made) == PER_SHARD
    assert not any(b"5ecret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    server.gone = {"00001.tar"}
    with pytest.raises(BlipError, match="1 of 1 shards did not come") as refused:
        ingest_dataset(source, tmp_path / "second", settings)
    assert "5ecret" not in str(refused.value)

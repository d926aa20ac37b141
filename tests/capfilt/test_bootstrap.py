"""Bootstrapping: every image decided and audited, nothing lost, the same whatever the batches."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from blip.capfilt.bootstrap import AUDIT, BootstrapSettings, bootstrap
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.errors import BlipError
from tests import tiny

SETTINGS = BootstrapSettings(min_tokens=3, max_tokens=10, samples_per_shard=4, batch_size=3, seed=5)


def write(folder: Path, prefix: str, texts: list[str], origin: str) -> PairsDataset:
    random = np.random.default_rng(len(texts))
    with PairsWriter(folder, samples_per_shard=4, parents=[], parameters={}) as writer:
        for number, text in enumerate(texts):
            image = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            media = cv2.imencode(".png", image)[1].tobytes()
            captions = (Caption(text, origin),)
            writer.add(Sample(f"{prefix}-{number}", media, "png", captions, width=32, height=32))
    return PairsDataset.open(folder)


@pytest.fixture
def web(tmp_path: Path) -> PairsDataset:
    return write(
        tmp_path / "web", "web", ["red apple", "", "DSC_0001.JPG", "the dog", "green", "table", "x"], "web"
    )


def run(web: PairsDataset, target: Path, human: PairsDataset | None = None, **changes: object):
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    return bootstrap(web, human, target, tiny.blip(1), tiny.blip(2), settings)


def audit(target: Path) -> list[dict]:
    return pq.read_table(target / AUDIT).to_pylist()


def test_every_image_is_in_the_audit_and_what_is_kept_is_in_the_dataset(
    web: PairsDataset, tmp_path: Path
) -> None:
    scores = sorted(row["web_itm"] for row in _scored(web, tmp_path))
    threshold = (scores[3] + scores[4]) / 2
    counts = run(web, tmp_path / "out", threshold=threshold)
    rows = audit(tmp_path / "out")
    assert [row["key"] for row in rows] == [f"web-{n}" for n in range(7)]
    kept = {sample.key: sample for sample in PairsDataset.open(tmp_path / "out").samples()}
    assert set(kept) == {row["key"] for row in rows if row["kept"]}
    for row in rows:
        passing = [row["web_itm"] >= threshold and bool(row["web_text"])]
        passing += [
            itm >= threshold and bool(text)
            for itm, text in zip(row["synthetic_itm"], row["synthetic_texts"], strict=True)
        ]
        assert [row["web_kept"], *row["synthetic_kept"]] == passing
        assert (row["reason"] == "") == any(passing)
        if any(passing):
            assert [caption.text for caption in kept[row["key"]].captions] == row["kept"]
            assert all(caption.itm is not None for caption in kept[row["key"]].captions)
    assert counts.images == 7
    assert counts.web_kept == sum(row["web_kept"] for row in rows)
    assert sum(counts.dropped.values()) == sum(not row["kept"] for row in rows)


def _scored(web: PairsDataset, tmp_path: Path) -> list[dict]:
    run(web, tmp_path / "scored", threshold=0.0)
    return audit(tmp_path / "scored")


def test_captions_do_not_depend_on_the_batches(web: PairsDataset, tmp_path: Path) -> None:
    run(web, tmp_path / "threes")
    run(web, tmp_path / "sevens", batch_size=7)
    texts = [[row["synthetic_texts"] for row in audit(tmp_path / name)] for name in ("threes", "sevens")]
    assert texts[0] == texts[1]
    run(web, tmp_path / "other", seed=6)
    assert [row["synthetic_texts"] for row in audit(tmp_path / "other")] != texts[0]


def test_an_empty_web_text_is_never_kept(web: PairsDataset, tmp_path: Path) -> None:
    run(web, tmp_path / "out", threshold=0.0)
    assert [row["web_kept"] for row in audit(tmp_path / "out")].count(False) == 1


@pytest.mark.parametrize("head", ["itc", "both"])
def test_the_head_that_decides_is_in_the_audit(web: PairsDataset, tmp_path: Path, head: str) -> None:
    human = write(tmp_path / "human", "human", ["red apple", "the dog"], "human")
    run(web, tmp_path / "out", human, head=head)
    for row in audit(tmp_path / "out"):
        assert row["web_kept"] == (row["web_score"] >= 0.5 and bool(row["web_text"]))
        assert row["web_score"] != pytest.approx(row["web_itm"], abs=1e-6)
    assert PairsDataset.open(tmp_path / "out").manifest.parameters["head"] == head


def test_human_pairs_pass_through(web: PairsDataset, tmp_path: Path) -> None:
    human = write(tmp_path / "human", "human", ["red apple", "the dog"], "human")
    run(web, tmp_path / "out", human, threshold=1.0)
    samples = list(PairsDataset.open(tmp_path / "out").samples())
    assert [sample.key for sample in samples if sample.key.startswith("human")] == ["human-0", "human-1"]
    assert samples[-1].captions[0] == Caption("the dog", "human")


def test_an_existing_destination_is_refused_and_left_alone(web: PairsDataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(BlipError, match="exists already"):
        run(web, tmp_path / "out")
    assert (tmp_path / "out/mine").read_text() == "x"


def test_a_failure_half_way_leaves_nothing_behind(web: PairsDataset, tmp_path: Path, monkeypatch) -> None:
    from blip.capfilt import bootstrap as module

    calls = []

    def fail(*arguments: object) -> list[str]:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return ["red"] * 3

    monkeypatch.setattr(module, "_write_captions", fail)
    with pytest.raises(OSError, match="No space left"):
        run(web, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["web"]

"""What each arm of the ablation gives a picture."""

from pathlib import Path

import pytest

from blip.capfilt.arms import CHOICES, captions_of, is_arm, write_arms
from blip.capfilt.bootstrap import AUDIT_FILE, bootstrap
from blip.capfilt.inputs import Models, Order, Pairs
from blip.config import CapFilt
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.errors import BlipError

from .conftest import TEXTS, write


@pytest.fixture
def pool(tmp_path: Path, models: Models) -> tuple[PairsDataset, Path]:
    """A pool that knows its truth, and the audit of its bootstrapping."""
    plain = write(tmp_path / "plain", "web", TEXTS, "web")
    with PairsWriter(tmp_path / "web", samples_per_shard=3, parents=[], parameters={}) as writer:
        for sample in plain.samples():
            writer.add(Sample(**{**vars(sample), "truth": {"caption_true": f"true {sample.key}"}}))
    settings = CapFilt.model_validate({"min_tokens": 3, "max_tokens": 10, "threshold": {"keep": 0.5}})
    bootstrap(Order(Pairs(tmp_path / "web"), None, models, settings, 5), tmp_path / "out")
    return PairsDataset.open(tmp_path / "web"), tmp_path / "out"


def texts(folder: Path, arm: str) -> dict[str, list[tuple[str, str]]]:
    samples = PairsDataset.open(folder / arm).samples()
    return {sample.key: [(c.origin, c.text) for c in sample.captions] for sample in samples}


def test_the_arms_are_what_the_paper_calls_them(pool: tuple[PairsDataset, Path], tmp_path: Path) -> None:
    web, out = pool
    write_arms(Pairs(web.path), out / AUDIT_FILE, tmp_path / "arms", list(CHOICES), 4)
    found = {arm: texts(tmp_path / "arms", arm) for arm in CHOICES}
    kept = {s.key: [(c.origin, c.text) for c in s.captions] for s in PairsDataset.open(out).samples()}
    assert found["C+F"] == kept
    assert found["F"] == {key: [one] for key, captions in kept.items() for one in captions if one[0] == "web"}
    assert found["truth"] == {f"web-{n}": [("human", f"true web-{n}")] for n in range(7)}
    assert list(found["C"]) == [f"web-{n}" for n in range(7)]
    assert [origin for origin, _ in found["C"]["web-1"]] == ["synthetic"]  # its web text is empty
    assert all(set(kept[key]) <= set(captions) for key, captions in found["C"].items() if key in kept)
    assert 0 < len(found["F"]) < len(found["C"])


def test_an_audit_of_another_pool_is_refused(pool: tuple[PairsDataset, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", "other", ["a", "b"], "web")
    with pytest.raises(BlipError, match=r"is not of .*other: sample other-0 is missing"):
        write_arms(Pairs(other.path), pool[1] / AUDIT_FILE, tmp_path / "arms", ["F"], 4)


def test_a_pool_without_truth_has_no_arm_of_it(web: PairsDataset, tmp_path: Path) -> None:
    with pytest.raises(BlipError, match="leave the arm truth out"):
        write_arms(Pairs(web.path), tmp_path / "none", tmp_path / "arms", ["truth"], 4)


def test_captions_have_their_origin() -> None:
    row = {
        "web_texts": ["a", "c"],
        "web_reason": ["", "no_match"],
        "synthetic_texts": ["b", ""],
        "synthetic_reason": ["no_match", "empty"],
    }
    assert CHOICES["C"](row) == [Caption("a", "web"), Caption("c", "web"), Caption("b", "synthetic")]
    assert CHOICES["C+F"](row) == CHOICES["F"](row) == [Caption("a", "web")]


def test_fewer_captions_are_the_first_ones() -> None:
    row = {
        "web_texts": ["a"],
        "web_reason": ["no_match"],
        "synthetic_texts": ["b", "c", "d"],
        "synthetic_reason": ["", "no_match", ""],
    }
    assert [c.text for c in captions_of("C+F@1", row)] == ["b"]
    assert [c.text for c in captions_of("C+F@2", row)] == ["b"]
    assert captions_of("C+F@3", row) == captions_of("C+F", row) == captions_of("C+F@9", row)
    assert [c.text for c in captions_of("C@2", row)] == ["a", "b", "c"]
    assert is_arm("C@2") and not any(map(is_arm, ("F@2", "C+F@0", "C+F@", "noisy")))

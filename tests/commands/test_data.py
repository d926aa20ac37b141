"""`blip ingest`, `inspect` and `validate` on small real things."""

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from blip.data.manifest import manifest_digest


def test_ingest_makes_a_dataset_and_tells_what_is_in_it(blip, dataset: Path):
    counts = json.loads(blip("inspect", dataset, "--json").out)

    assert counts["samples"] == 3
    assert counts["origin"] == {"web": 3}
    assert counts["short side"] == "40 to 40 px"


def test_ingest_does_not_write_over_a_dataset(blip, dataset: Path, pictures: Path):
    ended = blip("ingest", pictures, "--out", dataset)

    assert ended.code == 2
    assert "exists already" in ended.err


def test_a_place_that_cannot_be_written_to_is_named(blip, pictures: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    for out, why in (("/proc/zz", "No such file or directory"), (tmp_path / "file/zz", "File exists")):
        ended = blip("ingest", pictures, "--out", out)

        assert ended.code == 1
        told = (
            f"{out}: nothing can be written into {Path(out).parent} ({why}); allow it, or name another place"
        )
        assert f"{told} with --out" in " ".join(ended.err.split())


def test_an_ingest_that_made_nothing_leaves_nothing(blip, pictures: Path, tmp_path: Path):
    (tmp_path / "pictures/feed.csv").write_text("image,caption\nred apple.png,red\n")
    out = ("--out", tmp_path / "out/pairs")
    for wrong in (("--column", "caption=words"), ("--kind", "coco")):
        assert blip("ingest", pictures / "feed.csv", *out, *wrong).code == 1
        assert list((tmp_path / "out").iterdir()) == []
    (pictures / "red apple.png").write_bytes(b"<html>")
    assert "waits in" in blip("ingest", pictures / "feed.csv", *out).err
    assert (tmp_path / "out/.pairs.partial").is_dir(), "what it read is not read again"


def test_a_setting_of_ingest_that_is_none_is_named(blip, pictures: Path, tmp_path: Path):
    ended = blip("ingest", pictures, "--out", tmp_path / "out", "--set", "download.conections=3")

    assert ended.code == 2
    assert "download.conections: no such setting; did you mean 'connections'?" in ended.err


def test_a_broken_picture_is_set_aside_and_counted(blip, pictures: Path, tmp_path: Path):
    (pictures / "broken apple.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))

    assert blip("ingest", pictures, "--out", tmp_path / "pairs", "--max-bad-fraction", 0.5).code == 0

    counts = json.loads(blip("inspect", tmp_path / "pairs", "--json").out)
    assert (counts["samples"], sum(counts["left out"].values())) == (3, 1)


def test_inspect_shows_bars_and_what_was_left_out_with_examples(blip, pictures: Path, tmp_path: Path):
    (pictures / "broken apple.png").write_bytes(b"<html>404 [bold]no[/bold]")
    (pictures / "wide apple.txt").write_text("a wide apple\nanother caption of it\n")
    Image.new("RGB", (300, 100), "red").save(pictures / "wide apple.png")
    for picture in pictures.glob("*.png"):  # where one has a text, names are no captions
        if not (text := picture.with_suffix(".txt")).exists():
            text.write_text(picture.stem)
    blip("ingest", pictures, "--out", tmp_path / "pairs", "--origin", "web", "--max-bad-fraction", 0.5)

    shown = blip("inspect", tmp_path / "pairs").out

    assert "samples            4\n" in shown
    assert "left out           1 not_an_image\n" in shown
    assert "short side  40 to 100 px, mean 55" in shown
    assert re.search(r" 32 - 47 █{24} +3 +75%", shown)
    plain = re.sub(r"[│\s]+", " ", shown)
    assert re.search(
        r"not_an_image 1 samples ingest broken_apple-\w+ broken apple\.png: 25 bytes that begin with b'<html>40'",
        plain,
    )


def test_inspect_counts_samples_and_texts_apart_and_each_sample_once(
    blip, pictures: Path, tmp_path: Path
) -> None:
    rows = ["image,caption", *(f"{path.name},a fruit" for path in sorted(pictures.glob("*.png")))]
    (pictures / "broken.png").write_bytes(b"<html>")
    (pictures / "feed.csv").write_text("\n".join([*rows, f"{rows[1].split(',')[0]},", "broken.png,broken"]))
    blip("ingest", pictures / "feed.csv", "--out", tmp_path / "pairs", "--max-bad-fraction", 0.5)
    (tmp_path / "validated").mkdir()
    broken = {"key": ["a", "a"], "expectation": ["min_side", "max_aspect_ratio"], "detail": ["20", "5"]}
    pq.write_table(pa.table(broken), tmp_path / "validated/pairs.parquet")

    counts = json.loads(blip("inspect", tmp_path / "pairs", "--json").out)

    assert (counts["left out"], counts["texts left out"]) == ({"not_an_image": 1}, {"empty_caption": 1})
    assert (counts["set aside"], counts["validation"]) == (1, {"max_aspect_ratio": 1, "min_side": 1})
    shown = blip("inspect", tmp_path / "pairs").out
    assert "  texts left out     1 empty_caption\n  set aside          1\n" in shown


def test_inspect_tells_a_dataset_that_was_not_validated_from_one_without_fault(
    blip, dataset: Path, tmp_path: Path
) -> None:
    def inspected() -> tuple[str, dict]:
        return blip("inspect", dataset).out, json.loads(blip("inspect", dataset, "--json").out)

    shown, counts = inspected()
    assert "  validation         not validated\n" in shown and "set aside" not in shown
    assert (counts["set aside"], counts["validation"]) == (None, None)
    (tmp_path / "validated").mkdir()
    nothing = pa.table({name: pa.array([], pa.string()) for name in ("key", "expectation", "detail")})
    pq.write_table(nothing, dataset.parent / f"validated/{dataset.name}.parquet")
    shown, counts = inspected()
    assert "  set aside          0\n  validation         none\n" in shown
    assert (counts["set aside"], counts["validation"]) == (0, {})


def test_inspect_shows_no_verdict_of_an_earlier_dataset(blip, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "validated").mkdir()
    broken = {"key": ["gone"], "expectation": ["min_side"], "detail": ["short_side 20"]}
    pq.write_table(pa.table(broken), dataset.parent / f"validated/{dataset.name}.parquet")

    def inspected(passed: bool, digest: str) -> tuple[str, dict]:
        verdict = {dataset.name: {"passed": passed, "manifest": digest}}
        (dataset.parent / "validated/gate.json").write_text(json.dumps({"datasets": verdict}))
        return blip("inspect", dataset).out, json.loads(blip("inspect", dataset, "--json").out)

    shown, counts = inspected(True, "of another")
    assert "  validation         not validated since it was made\n" in shown
    assert "gone" not in shown and "set aside" not in shown
    assert (counts["set aside"], counts["validation"], counts["examples"]) == (None, None, [])
    shown, counts = inspected(False, manifest_digest(dataset))
    assert "gone" in shown and counts["set aside"] == 1


def test_inspect_shows_a_dataset_beside_a_damaged_gate(blip, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "validated").mkdir()
    broken = {"key": ["gone"], "expectation": ["min_side"], "detail": ["short_side 20"]}
    pq.write_table(pa.table(broken), dataset.parent / f"validated/{dataset.name}.parquet")
    gate = dataset.parent / "validated/gate.json"
    gate.write_text('{"datasets": {')
    ended = blip("inspect", dataset)
    assert ended.code == 0 and "samples  " in ended.out and "gone" not in ended.out
    shown = " ".join(ended.out.split())
    assert "validation not known:" in shown and "cannot be read" in shown
    assert json.loads(blip("inspect", dataset, "--json").out)["validation"] is None


def test_inspect_draws_what_it_saw(blip, dataset: Path, tmp_path: Path):
    ended = blip("inspect", dataset, "--png", tmp_path / "seen", "--json")

    drawn = json.loads(ended.out)["pictures"]
    assert drawn == [str(tmp_path / "seen" / name) for name in ("contact_sheet.png", "histograms.png")]
    with Image.open(drawn[0]) as sheet:
        assert sheet.format == "PNG"


def test_names_are_shown_as_they_are(blip, pictures: Path, tmp_path: Path):
    """Not as a terminal's markup or emoji."""
    (pictures / "missing:cat:[bold].png").write_bytes(b"no :cat: [bold]")
    out, seen = tmp_path / "pairs[v2]", tmp_path / "seen[" / "v2]:cat:"
    blip("ingest", pictures, "--out", out, "--max-bad-fraction", 0.5)
    shown = blip("inspect", out, "--png", seen).out
    assert str(out) in shown.replace("\n", "")
    assert f"  drawn: {seen}/contact_sheet.png\n" in shown
    assert ":cat:" in shown[shown.index("Left out") : shown.index("drawn")]
    assert blip("inspect", out, "--png", tmp_path / "seen[" / "v2]").code == 0


def test_a_sound_dataset_is_valid(blip, dataset: Path):
    assert blip("validate", dataset).out == f"{dataset}: 3 samples in 1 shards, as the manifest says\n"


def test_a_damaged_shard_is_found(blip, dataset: Path):
    shard = next(dataset.glob("shards/*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)

    ended = blip("validate", dataset)
    assert ended.code == 1
    assert "shards/00000.tar is not the file that the manifest describes" in ended.err
    assert "shard shards/00000.tar: key blue_apple-" in ended.err
    assert f"\nget it again, or take {dataset} away and ingest its sources again" in ended.err


def test_of_a_damaged_dataset_of_the_pipeline_it_is_said_how_dvc_puts_it_back(
    blip, dataset: Path, tmp_path: Path, monkeypatch
):
    shutil.copy(Path(__file__).parents[2] / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.move(dataset, tmp_path / "data/datasets/web")
    next(Path("data/datasets/web/shards").glob("*.tar")).unlink()

    ended = blip("validate", "data/datasets/web/")
    assert "shard shards/00000.tar is missing" in ended.err
    assert "\n`dvc checkout --force data/datasets/web` puts back what DVC keeps of it" in ended.err


def test_a_folder_that_is_no_dataset_is_refused(blip, pictures: Path):
    ended = blip("inspect", pictures)

    assert ended.code == 1
    assert "is not a pairs dataset" in ended.err

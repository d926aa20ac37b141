"""What a finished pipeline leaves behind, in small: figures, curves, examples with pictures, an audit."""

import csv
import io
import json
import math
import random
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from blip.capfilt.bootstrap import AUDIT_FILE as AUDIT
from blip.capfilt.decision import SCHEMA
from blip.config import Settings, load_settings
from blip.data.pairs import Caption, PairsWriter, Sample
from blip.report.graph import NODES
from blip.report.provenance import RunFacts, Span

ROOT = Path(__file__).parents[2]
NOISE = ("other_caption", "camera_file", "shop")
SECONDS = {stage: 4.0 + 9 * place for place, stage in enumerate(NODES)} | {"pretrain": 131.0}

Picture = tuple[str, bytes]  # label, WebP


def draw(number: int) -> bytes:
    """A small WebP that is different for every number."""
    image = Image.new("RGB", (48, 48), "white")
    colour = (37 * number % 200, 91 * number % 200, 53 * number % 200)
    ImageDraw.Draw(image).ellipse((6, 6 + number % 9, 40, 40), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP")
    return buffer.getvalue()


PICTURES: list[Picture] = [(f"thing {number}", draw(number)) for number in range(24)]


@pytest.fixture
def drawn() -> Callable[[int], bytes]:
    """The picture of a number, the same every time."""
    return draw


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings(ROOT / "params.yaml")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder in which nothing has run."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def left_behind(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    """What `finished` is a copy of; to be read only."""
    folder = tmp_path_factory.mktemp("project")
    leave_behind(folder, settings, PICTURES, clips=6)
    return folder


@pytest.fixture
def finished(empty: Path, left_behind: Path) -> Path:
    """A project folder in which everything but the report has run."""
    shutil.copytree(left_behind, empty, dirs_exist_ok=True)
    return empty


@pytest.fixture(scope="session")
def facts() -> RunFacts:
    return run_facts()


def run_facts() -> RunFacts:
    """A pipeline in which everything but `ingest` and `validate` ran."""
    began, spans = 3.0, {}
    for stage in list(NODES)[2:-1]:
        spans[stage] = Span(began, began + SECONDS[stage], 2 if stage == "pretrain" else 1)
        began += SECONDS[stage] + 2
    return RunFacts(
        started=datetime(2026, 11, 22, 7, 20, tzinfo=UTC),
        seconds=began + 4,
        spans=spans,
        champions={"blip-base": 3, "blip-vqa": 2},
        tags={"blip.git_commit": "4f0c2d9a17be55", "blip.dvc_lock": "sha256:9c1f77ab02"},
        run_id="c0ffee5e2d1b4a6f",
        experiment_id="1",
    )


def leave_behind(root: Path, settings: Settings, pictures: Sequence[Picture], clips: int) -> None:
    """Write what every stage but the report leaves behind."""
    random_ = random.Random(5)
    _metrics(root, settings)
    _curves(root / "metrics/curves")
    _web_pool(root / "data/datasets", pictures, random_)
    _evaluations(root / "reports/evaluate", pictures, clips, random_)
    for page in ("data_docs", "capfilt"):
        _write(root / "reports" / page / "index.html", f"<title>{page}</title>")


def _metrics(root: Path, settings: Settings) -> None:
    counts = dict(zip(settings.ingest.datasets, (358, 2103, 424, 424, 3600, 400, 1000, 66), strict=True))
    stages: dict[str, dict[str, float]] = {stage: {} for stage in NODES if stage != "report"}
    for name, count in counts.items():
        stages["ingest"] |= {f"ingest.{name}.samples": count, f"ingest.{name}.quarantined": 0.0}
        stages["ingest"][f"ingest.{name}.near_duplicates"] = 0.0
        stages["validate"] |= {f"validate.{name}.samples": count, f"validate.{name}.set_aside": count // 50}
    stages["validate"] |= {"validate.expectations": 61, "validate.warnings": 2}
    stages["captioner"] = {"captioner.validation.exact_match": 0.31}
    stages["capfilt"] = {
        "filter.roc_auc": 0.934,
        "filter.itm_roc_auc": 0.823,
        "filter.itc_roc_auc": 0.861,
        "filter.precision": 0.91,
        "filter.recall": 0.88,
        "capfilt.synthetic_right": 0.41,
        "capfilt.synthetic_right_kept": 0.62,
    }
    stages["evaluate@retrieval"] = {
        f"retrieval.{way}_r{k}": value
        for way, values in (("i2t", (0.663, 0.9, 0.934)), ("t2i", (0.691, 0.89, 0.92)))
        for k, value in zip((1, 5, 10), values, strict=True)
    }
    at_random = {"i2t_r1": 0.04, "i2t_r10": 0.41, "t2i_r1": 0.04, "t2i_r10": 0.42}
    stages["evaluate@retrieval"] |= {f"retrieval.chance.{name}": value for name, value in at_random.items()}
    stages["evaluate@retrieval"] |= {"retrieval.images": 24.0, "retrieval.texts": 25.0}
    stages["evaluate@captioning"] = {
        "captioning.exact_match": 0.587,
        "captioning.cider": 5.46,
        "captioning.always_commonest": 0.042,
        "captioning.reference_words": 2.2,
    }
    stages["evaluate@vqa"] = {
        "vqa.accuracy": 0.861,
        "vqa.open_accuracy": 0.744,
        "vqa.question_only": 0.667,
        "vqa.question_only_open": 0.222,
    }
    stages["evaluate@classification"] = {
        "classification.top1": 0.61,
        "classification.top5": 0.87,
        "classification.classes": 24.0,
    }
    stages["evaluate@video"] = {"video.t2v_r1": 0.636, "video.chance.t2v_r1": 0.17, "video.clips": 6.0}
    for place, model in enumerate(("pretrain", "bootstrapped", "finetuned")):
        for head in ("", "itc."):
            for way in ("i2t", "t2i"):
                for k in (1, 5, 10):
                    value = 0.14 + 0.25 * place + 0.02 * k - (0.03 if head else 0)
                    stages["compare"][f"compare.{model}.{head}{way}_r{k}"] = value
    stages["compare"] |= {"compare.gain": 0.25, "compare.gain_half": 0.0512, "compare.images": 424.0}
    stages["pretrain"]["pretrain.training.steps"] = 800.0
    stages["pretrain_bootstrapped"] |= {
        "pretrain_bootstrapped.training.steps": 900.0,
        "pretrain_bootstrapped.validation.itc.i2t_r1": 0.43,
    }
    for task, name, value in (
        ("retrieval", "i2t_r1", 0.47),
        ("retrieval", "t2i_r1", 0.49),
        ("captioning", "exact_match", 0.39),
        ("captioning", "cider", 1.72),
        ("captioning", "always_commonest", 0.002),
        ("vqa", "accuracy", 0.842),
        ("vqa", "question_only", 0.661),
    ):
        stages[f"finetune@{task}"][f"finetune.{task}.validation.{name}"] = value
    for number, model in enumerate(settings.register_.gate):
        stages["register"][f"register.{model}.passed"] = float(model != "blip-captioning")
        stages["register"][f"register.{model}.version"] = (
            0.0 if model == "blip-captioning" else 3.0 + number % 2
        )
    for stage, figures in stages.items():
        path = root / "metrics" / f"{stage.replace('@', '_')}.json"
        _write(path, json.dumps({**figures, "seconds": SECONDS[stage]}))


def _curves(folder: Path) -> None:
    losses = {
        "pretrain": ("itc", "itm", "lm"),
        "pretrain_bootstrapped": ("itc", "itm", "lm"),
        "captioner": ("lm",),
        "filter": ("itc", "itm"),
        "finetune_retrieval": ("itc", "itm"),
        "finetune_captioning": ("lm",),
        "finetune_vqa": ("lm",),
    }
    ends = {"itc": (5.6, 2.2), "itm": (0.64, 0.4), "lm": (6.5, 2.1)}
    columns = ("step", "loss", "itc", "itm", "lm", "lr", "pairs_per_second", "mfu", "data_wait", "memory_gb")
    for place, (stage, names) in enumerate(losses.items()):
        rows = []
        for step in range(20, 1001, 20):
            row = {
                name: ends[name][1]
                + (ends[name][0] - ends[name][1]) * math.exp(-step / (200 + 30 * place))
                + 0.03 * math.sin(step * 1.7)
                for name in names
            }
            speed = {"pairs_per_second": 610, "mfu": 0.37, "data_wait": 0.02, "memory_gb": 1.3 + step / 1e4}
            rows.append({"step": step, "loss": sum(row.values()), **row, "lr": 0.02, **speed})
        _table(folder / f"{stage}.csv", columns, rows)


def _web_pool(datasets: Path, pictures: Sequence[Picture], random_: random.Random) -> None:
    """A pool in which every second text is wrong, and an audit that is right about most of them."""
    rows = []
    with PairsWriter(datasets / "web", samples_per_shard=16, parents=[], parameters={}) as writer:
        for number, (label, media) in enumerate(pictures):
            matched = number % 2
            text = label if matched else f"DSC_{random_.randrange(9999):04d}.JPG"
            noise = "" if matched else NOISE[random_.randrange(3)]
            truth: dict[str, str | int | float] = {
                "caption_true": label,
                "matched": matched,
                "noise": noise,
                "artist": f"artist {number % 3}",
            }
            sample = Sample(f"web-{number:04d}", media, "webp", (Caption(text, "web"),), truth=truth)
            writer.add(sample, phash=number)
            rows.append(_audit_row(sample.key, text, label, bool(matched), random_))
    (datasets / "bootstrapped").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), datasets / "bootstrapped" / AUDIT)


def _audit_row(key: str, text: str, label: str, matched: bool, random_: random.Random) -> dict[str, object]:
    web, made = (random_.betavariate(*((5, 0.8) if good else (0.6, 5))) for good in (matched, True))
    web_itc = random_.gauss(0.5 if matched else 0.1, 0.13)
    written = label if random_.random() < 0.7 else f"a drawing of {label}"
    return {
        "key": key,
        "web_texts": [text],
        "synthetic_texts": [written],
        "web_itm": [web],
        "web_itc": [web_itc],
        "web_neighbours": [2 * (web_itc - 0.3)],
        "web_likelihood": [-1.5],
        "web_score": [web],
        "synthetic_itm": [made],
        "synthetic_itc": [0.4],
        "synthetic_neighbours": [0.0],
        "synthetic_likelihood": [-0.7],
        "synthetic_score": [made],
        "kept": [t for t, score in ((text, web), (written, made)) if score >= 0.5],
        "web_kept": [web >= 0.5],
        "synthetic_kept": [made >= 0.5],
        "web_reason": ["" if web >= 0.5 else "no_match"],
        "synthetic_reason": ["" if made >= 0.5 else "no_match"],
        "reason": "" if max(web, made) >= 0.5 else "no_match",
    }


def _evaluations(folder: Path, pictures: Sequence[Picture], clips: int, random_: random.Random) -> None:
    answers = _Answers([label for label, _ in pictures], random_)
    sections: dict[str, dict[str, list[dict[str, object]]]] = {
        "retrieval": {"examples": answers.texts_of_images(), "text_to_image": answers.images_of_texts()},
        "captioning": {"examples": answers.captions()},
        "vqa": {"examples": answers.questions()},
        "classification": {"examples": answers.classes()},
        "video": {"examples": answers.clips(clips)},
    }
    for task, shown in sections.items():
        _evaluation(folder / task, pictures, shown)


class _Answers:
    """What a model might have answered about pictures with these labels, two of three times right."""

    def __init__(self, labels: list[str], random_: random.Random) -> None:
        self.labels, self.random = labels, random_
        self.names = [f"images/test-{number:04d}.webp" for number in range(len(labels))]
        self.right = [number % 3 != 1 for number in range(len(labels))]
        self.shown = range(min(24, len(labels)))

    def hits(self, number: int) -> list[int]:
        """Five pictures, best first; the right one is the first or the second."""
        others = self.random.sample([n for n in range(len(self.labels)) if n != number], 4)
        return [number, *others] if self.right[number] else [others[0], number, *others[1:]]

    def texts_of_images(self) -> list[dict[str, object]]:
        return [
            {
                "image": self.names[n],
                "caption": self.labels[n],
                "top_texts": [
                    {"text": self.labels[hit], "score": 6.2 - place, "correct": hit == n}
                    for place, hit in enumerate(self.hits(n))
                ],
            }
            for n in self.shown
        ]

    def images_of_texts(self) -> list[dict[str, object]]:
        return [
            {
                "query": self.labels[n],
                "top_images": [
                    {"image": self.names[hit], "score": 6.2 - place, "correct": hit == n}
                    for place, hit in enumerate(self.hits(n))
                ],
            }
            for n in self.shown
        ]

    def captions(self) -> list[dict[str, object]]:
        return [
            {
                "image": self.names[n],
                "reference": self.labels[n],
                "caption": self.labels[n] if self.right[n] else self.labels[n - 1],
                "correct": self.right[n],
            }
            for n in self.shown
        ]

    def questions(self) -> list[dict[str, object]]:
        return [
            {
                "image": self.names[n],
                "question": f"what is the colour of the {self.labels[n]}?",
                "answer": "teal",
                "prediction": "teal" if self.right[n] else "blue",
                "correct": self.right[n],
                "accuracy": float(self.right[n]),
            }
            for n in self.shown
        ]

    def classes(self) -> list[dict[str, object]]:
        return [
            {
                "image": self.names[n],
                "label": self.labels[n],
                "top": [
                    {"label": self.labels[hit], "probability": 0.6 / 2**place}
                    for place, hit in enumerate(self.hits(n))
                ],
                "correct": self.right[n],
            }
            for n in self.shown
        ]

    def clips(self, count: int) -> list[dict[str, object]]:
        return [
            {
                "query": self.labels[n],
                "clips": [
                    {
                        "frames": [self.names[(hit + frame) % len(self.names)] for frame in range(4)],
                        "label": self.labels[hit],
                        "score": 5.1 - place,
                        "correct": hit == n,
                    }
                    for place, hit in enumerate(self.hits(n))
                ],
            }
            for n in range(count)
        ]


def _evaluation(
    folder: Path,
    pictures: Sequence[Picture],
    sections: dict[str, list[dict[str, object]]],
) -> None:
    (folder / "images").mkdir(parents=True)
    for number, (_, media) in enumerate(pictures):
        (folder / f"images/test-{number:04d}.webp").write_bytes(media)
    count = len(sections["examples"])
    selection = {
        "seed": 7,
        "right": count - count // 3,
        "wrong": count // 3,
        "right_of_all": 283,
        "of": 424,
    }
    _write(folder / "examples.json", json.dumps({"task": folder.name, "selection": selection, **sections}))


def _table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(rows)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")

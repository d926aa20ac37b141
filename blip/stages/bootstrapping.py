"""What the stages that bootstrap share: clean the web pool with a captioner and a filter, and say what became of it."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from blip.atomic import write_json
from blip.capfilt.bootstrap import AUDIT_FILE, Ranks, bootstrap, count
from blip.capfilt.inputs import Models, Order, Pairs
from blip.capfilt.shard import Tally
from blip.config import CapFilt, Settings
from blip.config.places import DATASETS, VALIDATED
from blip.config.watched import CAPFILT_IMMATERIAL
from blip.data.jobs import HERE, open_pool
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_rows
from blip.data.text import Tokenizer, clean_caption
from blip.data.truth import MATCHED, is_matched
from blip.model.device import device_of
from blip.tasks.captioning import Normal, comparable, is_exact
from blip.tasks.matching import as_mask, precision_recall, roc_auc, share_of
from blip.tracking.measured import Scores, measured
from blip.training.launch.crew import Crew, current_crew
from blip.training.launch.place import Place
from blip.training.owner import give_up

Row = dict[str, Any]
JOB, DONE = "job.json", "done.json"  # for the ranks, and of the first one
LABEL = "truth_caption_true"
UNMENTIONED = {"rounds", "dtype", "compile", "batch_size", *CAPFILT_IMMATERIAL}
"""Of the settings of CapFilt, what its figures are not said to be measured by: they change them by rounding at most."""
JUDGED_BY = ("web", "human", "held_out", "head", "views", "likelihood", "neighbours")
"""Of the settings of CapFilt, to what it says of a text that is held out."""
CUT, HELD_OUT = ("threshold", "synthetic_threshold"), ("validation_auc", "validation_accuracy")
AUDITED = (
    "key",
    "web_texts",
    "web_kept",
    "web_score",
    "web_itm",
    "web_itc",
    "synthetic_texts",
    "synthetic_kept",
)


def order_of(captioner: Path, judge: Path, settings: Settings) -> Order:
    """To bootstrap the web pool of the settings; the human pairs pass through."""
    how = settings.capfilt
    names = (how.web, how.human, how.held_out)
    web, human, held_out = (Pairs(DATASETS / name, VALIDATED / f"{name}.parquet") for name in names)
    models = Models.of(captioner, [judge], device_of(settings.compute.device), how.dtype, how.compile)
    return Order(web, human, models, how, settings.seed, held_out)


def write_bootstrapped(target: Path, captioner: Path, judge: Path, settings: Settings) -> None:
    """Bootstrap on as many ranks as the settings say; on one, with as many workers as there may be.

    Raises:
        Preempted: the ranks were asked to stop.
        BlipError: a model or a dataset cannot be used for this, or a rank failed.
    """
    ranks = settings.capfilt.ranks
    if ranks == 1:
        order = order_of(captioner, judge, settings)
        with open_pool(1 if order.models.device == "cuda" else None) as pool:
            bootstrap(order, target, pool)
        return
    folder = target.with_name(f".{target.name}.ranks")
    places = {"target": str(target), "captioner": str(captioner), "judge": str(judge)}
    write_json(folder / JOB, places | {"settings": settings.model_dump(mode="json", by_alias=True)})
    crew = current_crew() or Crew(Place(), settings.launch)
    threads = max(settings.compute.threads // crew.place.beside(ranks), 1)
    crew.run("capfilt", ranks, ["blip.stages.capfilt_rank", str(folder)], folder / DONE, threads)
    shutil.rmtree(folder)
    give_up(folder)


def bootstrap_as_rank(folder: Path) -> None:
    """Do the share of this process of what `write_bootstrapped` has written down; the first rank says when all is done.

    Raises:
        BlipError: a model or a dataset cannot be used for this, or another rank is gone.
    """
    values = json.loads((folder / JOB).read_text(encoding="utf-8"))
    settings = Settings.model_validate(values.pop("settings"))
    target, captioner, judge = (Path(values[key]) for key in ("target", "captioner", "judge"))
    order, ranks = order_of(captioner, judge, settings), Ranks.of_environment()
    models = replace(order.models, device=ranks.device(order.models.device))
    bootstrap(replace(order, models=models), target, HERE, ranks)
    if ranks.rank == 0:
        write_json(folder / DONE, {"dataset": str(target)})


def bootstrapped_scores(target: Path, captioner: Path, judge: Path, settings: Settings) -> Scores:
    """The thresholds, what was kept, and how right that was where the pool's truth is known; and the held-out pairs'.

    The truth is read here, after the decisions, and nowhere before.
    """
    parameters, models = PairsDataset.open(target).manifest.parameters, [captioner, judge]
    cut, held_out = ({f"capfilt.{name}": parameters[name] for name in names} for names in (CUT, HELD_OUT))
    web = PairsDataset.open(DATASETS / settings.capfilt.web)
    normal = Tokenizer.from_directory(captioner).normal
    figures = cut | _kept_figures(count(target)) | truth_figures(web, target / AUDIT_FILE, normal)
    deciding = ("seed", *(f"capfilt.{name}" for name in CapFilt.model_fields if name not in UNMENTIONED))
    judging = ("seed", *(f"capfilt.{name}" for name in JUDGED_BY))
    on_web = Scores.of(figures, measured(models, settings.capfilt.web, settings, *deciding))
    return on_web | Scores.of(held_out, measured(models, settings.capfilt.held_out, settings, *judging))


def _kept_figures(tally: Tally) -> dict[str, float]:
    images = max(tally.images, 1)
    return {
        "capfilt.images": tally.images,
        "capfilt.web_kept": tally.web_kept / max(tally.web, 1),
        "capfilt.synthetic_kept": tally.synthetic_kept / max(tally.synthetic, 1),
        "capfilt.images_dropped": tally.dropped / images,
        "capfilt.images_bad": tally.bad,
    }


def truth_figures(web: PairsDataset, audit: Path, normal: Normal = str) -> dict[str, float]:
    """Filter and captioner against what is known of the web pool; empty where nothing is (real data).

    Only pictures whose truth is known count. The area under the curve is left out where all texts match, or none does,
    and a share of texts where there are none.
    ``filter.*`` is over the web texts; ``capfilt.synthetic_right`` is the share of synthetic captions that are the
    picture's true label, before and after filtering; ``capfilt.rescued`` the share of the pictures with a wrong web
    text that keep a caption which is. Captions and labels are compared as `normal`, the captioner's, leaves them.

    Raises:
        BlipError: of a web text the pool says neither that it is right nor that it is wrong.
    """
    metadata = web.path / METADATA
    if not {MATCHED, LABEL} <= set(pq.read_schema(metadata).names):
        return {}
    truth = {
        row["key"]: (matched, row[LABEL])
        for row in read_rows(metadata, ["key", MATCHED, LABEL])
        if (matched := is_matched(row, metadata)) is not None and row[LABEL] is not None
    }
    rows = [row for row in read_rows(audit, AUDITED) if row["web_texts"] and row["key"] in truth]
    if not rows:
        return {}
    matched = as_mask([truth[row["key"]][0] for row in rows])
    labels = [truth[row["key"]][1] for row in rows]
    aucs = {
        f"filter.{name}": roc_auc(
            torch.tensor([max(row[column]) for row in rows], dtype=torch.float64), matched
        )
        for name, column in (("roc_auc", "web_score"), ("itm_roc_auc", "web_itm"), ("itc_roc_auc", "web_itc"))
        if matched.any() and not matched.all()
    }
    kept = as_mask([any(row["web_kept"]) for row in rows])
    captions = [_captions(row, label, normal) for row, label in zip(rows, labels, strict=True)]
    written = [right for each in captions for right, _ in each]
    passed = [right for each in captions for right, was_kept in each if was_kept]
    named = as_mask([any(right and was_kept for right, was_kept in each) for each in captions])
    precision, recall = precision_recall(kept, matched)
    shares = {
        "filter.precision": precision,
        "filter.recall": recall,
        "capfilt.synthetic_right": share_of(sum(written), len(written)),
        "capfilt.synthetic_right_kept": share_of(sum(passed), len(passed)),
        "capfilt.rescued": share_of(int((named & ~matched).sum()), int((~matched).sum())),
    }
    return aucs | {name: share for name, share in shares.items() if not math.isnan(share)}


def _captions(row: Row, label: str, normal: Normal) -> list[tuple[bool, bool]]:
    """Of each synthetic caption: whether it is the label, and whether it was kept."""
    wanted = [comparable(clean_caption(label), normal)]
    right = (is_exact(comparable(text, normal), wanted) for text in row["synthetic_texts"])
    return list(zip(right, row["synthetic_kept"], strict=True))

"""What `blip inspect --png FOLDER` draws of a dataset.

write_pictures(inspect_dataset(Path("data/datasets/web")), Path("seen"))
# seen/contact_sheet.png, histograms.png and, where there is something to see, quarantine.png, near_duplicates.png
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image, ImageFile

from blip.atomic import atomic_path
from blip.data.decode import FORMATS, BadMedia, decode, to_rgb
from blip.data.pairs import PairsDataset, Sample
from blip.data.quarantine import NEAR_DUPLICATE, Quarantined, read_quarantine
from blip.data.video import middle_frame
from blip.errors import BlipError
from blip.inspection.contents import VALIDATION, Inspection, LeftOut, samples_of, spread
from blip.inspection.histogram import Histogram, shown
from blip.report.chart import COLOURS
from blip.report.sheets import Cell, Section, sheet

SAMPLES, COLUMNS = 24, 6
PAIRS = 24
BARS = 14
LIKE = re.compile(r"looks like ([^/]+)/(.+)")
MATPLOTLIB: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_pictures(seen: Inspection, folder: Path) -> list[Path]:
    """Draw what was seen into `folder`, replacing what is there of the same names; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, buffer = histograms_figure(seen), io.BytesIO()
    if figure:
        figure.savefig(buffer, format="png", dpi=130)
    drawn = {
        "contact_sheet.png": _png(contact_sheet(seen)),
        "histograms.png": buffer.getvalue(),
        "near_duplicates.png": _png(near_duplicates_sheet(seen)),
        "quarantine.png": _png(quarantine_sheet(seen)),
    }
    for name, data in drawn.items():
        if data:
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(data)
        else:
            (folder / name).unlink(missing_ok=True)
    return [folder / name for name, data in drawn.items() if data]


def contact_sheet(seen: Inspection) -> Image.Image:
    """Samples from everywhere in the dataset, with their key and what is said of them."""
    samples = spread(seen.dataset, SAMPLES)
    cells = [Cell([_picture(sample)], [sample.key], _words(sample)) for sample in samples]
    shards = len(seen.dataset.manifest.shards)
    subtitle = f"{len(samples):,} of {len(seen.dataset):,} samples, evenly over {shards:,} shard(s)"
    return sheet(seen.dataset.path.resolve().name, subtitle, [Section("", cells)], COLUMNS)


def quarantine_sheet(seen: Inspection) -> Image.Image | None:
    """Examples of what was left out, by reason; None if nothing was."""
    if not seen.left_out:
        return None
    keys = {entry.key for group in seen.left_out if _has_samples(group) for entry in group.examples}
    samples = samples_of(seen.dataset, keys) if keys else {}
    sections = [_section(group, samples if _has_samples(group) else {}) for group in seen.left_out]
    name = seen.dataset.path.resolve().name
    return sheet(f"{name}: left out", _reasons(seen), sections, COLUMNS)


def near_duplicates_sheet(seen: Inspection) -> Image.Image | None:
    """Training pictures beside the evaluation pictures that they look like; None if there are none."""
    pairs: list[tuple[Quarantined, str, str]] = []
    total = seen.dataset.manifest.quarantined.get(NEAR_DUPLICATE, 0)
    for entry in read_quarantine(seen.dataset.path) if total else ():
        match = LIKE.fullmatch(entry.detail) if entry.reason == NEAR_DUPLICATE else None
        if match and len(pairs) < PAIRS:
            pairs.append((entry, match[1], match[2]))
    if not pairs:
        return None
    others = _evaluation_samples(seen.dataset.path, [(name, key) for _, name, key in pairs])
    cells = [
        Cell([_kept(entry), _picture(others.get((name, key)))], [entry.key, f"{name}/{key}"])
        for entry, name, key in pairs
    ]
    subtitle = f"{len(pairs):,} of {total:,} pairs: left out of training on the left, kept for evaluation on the right"
    name = seen.dataset.path.resolve().name
    return sheet(f"{name}: near duplicates of evaluation pictures", subtitle, [Section("", cells)], 3)


def histograms_figure(seen: Inspection) -> Figure | None:
    """A small chart for each quantity that varies; None if none does."""
    import matplotlib

    varied = {name: histogram for name, histogram in seen.histograms.items() if not histogram.constant}
    constant = [f"{name} {each.told}" for name, each in seen.histograms.items() if name not in varied]
    if not varied:
        return None
    columns = min(3, len(varied))
    rows = -(-len(varied) // columns)
    with matplotlib.rc_context(MATPLOTLIB):
        figure = Figure(figsize=(max(4.2 * columns, 8), 1 + 3.1 * rows), layout="constrained")
        name = seen.dataset.path.resolve().name
        figure.suptitle(
            "; ".join([f"{len(seen.dataset):,} samples of {name}", *constant]),
            x=0.012, ha="left", color=COLOURS["ink"], size=13,
        )  # fmt: skip
        for number, (title, histogram) in enumerate(varied.items(), 1):
            _chart(figure.add_subplot(rows, columns, number), title, histogram)
    return figure


def _chart(axes, title: str, histogram: Histogram) -> None:
    bars = histogram.bars(BARS)
    places = range(len(bars))
    axes.bar(places, [bar.count for bar in bars], width=0.86, color=COLOURS["human"])
    axes.set_title(title, loc="left", weight="bold", color=COLOURS["ink"], size=11, pad=20)
    axes.text(0, 1.03, histogram.told, transform=axes.transAxes, color=COLOURS["soft"], size=9)
    labels = [bar.label for bar in bars]
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len("".join(labels)) > 40 else {}
    axes.set_xticks(list(places), labels, **turned)
    axes.set_xlim(-0.8, max(len(bars), 4) - 0.2)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value))
    axes.tick_params(colors=COLOURS["soft"], length=0, labelsize=8.5)
    axes.grid(axis="y", color=COLOURS["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(COLOURS["line"])


def _png(page: Image.Image | None) -> bytes:
    """A page as a file's bytes; none for no page."""
    buffer = io.BytesIO()
    if page:
        page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _has_samples(group: LeftOut) -> bool:
    """Whether the samples of a group are in the dataset."""
    return group.texts or group.by == VALIDATION


def _section(group: LeftOut, samples: dict[str, Sample]) -> Section:
    cells = [_refused_cell(entry, samples.get(entry.key), group.texts) for entry in group.examples]
    count = f"{group.count:,}" if group.texts else f"{group.count:,} left out"
    note = f"{count} by {group.by}, {len(cells):,} shown"
    return Section(group.reason, cells, f"text left out, picture kept: {note}" if group.texts else note)


def _refused_cell(entry: Quarantined, sample: Sample | None, text: bool) -> Cell:
    """A refused sample; or the one that a refused text was of, whose picture is in the dataset."""
    picture = _picture(sample) if sample else _kept(entry)
    missing = "cannot be decoded" if sample or (entry.payload and not text) else "not kept"
    words = f"{entry.detail}: {_words(sample)}" if sample and not text else entry.detail
    return Cell([picture], [entry.key], words, missing)


def _reasons(seen: Inspection) -> str:
    """How many samples, of which one may break several rules, and how many texts; each by reason."""
    samples = [group for group in seen.left_out if not group.texts]
    texts = [group for group in seen.left_out if group.texts]
    left_out = sum(group.count for group in samples if group.by != VALIDATION) + (seen.set_aside or 0)
    counts = (left_out, "samples", samples), (sum(group.count for group in texts), "texts", texts)
    return "; ".join(f"{count:,} {what}: {_told(groups)}" for count, what, groups in counts if groups)


def _told(groups: Iterable[LeftOut]) -> str:
    return ", ".join(f"{group.count:,} {group.reason}" for group in groups)


def _evaluation_samples(directory: Path, wanted: list[tuple[str, str]]) -> dict[tuple[str, str], Sample]:
    """The samples NAME/KEY of the datasets beside this one, as far as they are there."""
    found: dict[tuple[str, str], Sample] = {}
    for name in sorted({name for name, _ in wanted}):
        keys = {key for other, key in wanted if other == name}
        try:
            beside = PairsDataset.open(directory.resolve().parent / name)
            found |= {(name, key): sample for key, sample in samples_of(beside, keys).items()}
        except BlipError:  # it was ingested elsewhere or is gone: the pair is shown with one picture
            continue
    return found


def _kept(entry: Quarantined) -> Image.Image | None:
    """What ingest kept of a refused sample, if that is a picture or clip; of a truncated one what there is."""
    if entry.payload is None:
        return None
    try:
        data = entry.payload.read()
    except BlipError:  # `blip validate` says what is wrong with it
        return None
    try:
        clip = data[4:8] == b"ftyp" or data[:4] == b"\x1a\x45\xdf\xa3"
        return Image.fromarray(middle_frame(data) if clip else decode(data))
    except BadMedia as error:
        return _beginning(data) if error.reason == "truncated" else None


def _beginning(data: bytes) -> Image.Image | None:
    """The part of a truncated picture that can be decoded, the rest grey; `decode` has looked at its size."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        return to_rgb(Image.open(io.BytesIO(data), formats=FORMATS))
    except (OSError, ValueError, SyntaxError, BadMedia):
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _picture(sample: Sample | None) -> Image.Image | None:
    if sample is None:
        return None
    try:
        return Image.fromarray(middle_frame(sample.media) if sample.is_video else decode(sample.media))
    except BadMedia:
        return None


def _words(sample: Sample) -> str:
    """The first caption or question, and how many more there are."""
    texts = [caption.text for caption in sample.captions]
    for question in sample.questions:
        answer = max(question.answers, key=lambda answer: question.answers[answer], default="")
        texts.append(f"{question.text} {answer}")
    if not texts:
        return "(no text)"
    return texts[0] + (f" (+{len(texts) - 1} more)" if len(texts) > 1 else "")

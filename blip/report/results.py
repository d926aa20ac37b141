"""The figures of a pipeline: the flat summary, and the table of each beside its gate and its baseline."""

from collections.abc import Mapping
from dataclasses import dataclass

from blip.config.graph import STAGES
from blip.report.artefacts import Artefacts

# The pre-training runs are compared by image-to-text R@1 of the embeddings alone: after a short pre-training on noisy
# pairs the ITM head is still at chance on the validation style, and re-ranking by it hides what was learnt. The gate of
# blip-base reads the same figure of the validation data; the report shows both directions and both heads.
PROTOCOL = "itc.i2t_r1"
BOOTSTRAP = {
    "bootstrap.r1_noisy": f"compare.pretrain.{PROTOCOL}",
    "bootstrap.r1_bootstrapped": f"compare.bootstrapped.{PROTOCOL}",
    "bootstrap.gain_half": "compare.gain_half",
}
REPORT = "report"  # the stage that writes the summary, and whose seconds no file has
SUMMARY = (
    "retrieval.i2t_r1",
    "retrieval.i2t_r10",
    "retrieval.t2i_r1",
    "retrieval.t2i_r10",
    "captioning.exact_match",
    "captioning.cider",
    "filter.roc_auc",
    "filter.precision",
    "filter.recall",
    *BOOTSTRAP,
    "vqa.accuracy",
    "vqa.open_accuracy",
    "vqa.question_only",
    "video.t2v_r1",
)
VALIDATION = "On validation data, by which settings and champions are chosen"
POOL = "On the web pool, whose pairs pre-training has read"
LABELS = {
    "retrieval.i2t_r1": ("Image to text, R@1", "Retrieval"),
    "retrieval.i2t_r10": ("Image to text, R@10", "Retrieval"),
    "retrieval.t2i_r1": ("Text to image, R@1", "Retrieval"),
    "retrieval.t2i_r10": ("Text to image, R@10", "Retrieval"),
    "captioning.exact_match": ("Captions, exact match", "Captions"),
    "captioning.cider": ("Captions, CIDEr", "Captions"),
    "vqa.accuracy": ("All questions, accuracy", "Questions"),
    "vqa.open_accuracy": ("Open questions, accuracy", "Questions"),
    "classification.top1": ("Classification, top 1", "Zero-shot"),
    "video.t2v_r1": ("Text to video, R@1", "Zero-shot"),
    "compare.pretrain.itc.i2t_r1": ("Pre-trained on the noisy pool, R@1", "Pre-training"),
    "compare.bootstrapped.itc.i2t_r1": ("Pre-trained on bootstrapped pairs, R@1", "Pre-training"),
    "pretrain_bootstrapped.validation.itc.i2t_r1": ("Pre-trained on bootstrapped pairs, R@1", VALIDATION),
    "captioner.validation.exact_match": ("Captioner, exact match", VALIDATION),
    "captioner.validation.cider": ("Captioner, CIDEr", VALIDATION),
    "filter.validation_auc": ("Filter by its ITM head, ROC AUC", VALIDATION),
    "capfilt.validation_auc": ("Filter as CapFilt decides, ROC AUC", VALIDATION),
    "finetune.retrieval.validation.i2t_r1": ("Retrieval, image to text, R@1", VALIDATION),
    "finetune.retrieval.validation.t2i_r1": ("Retrieval, text to image, R@1", VALIDATION),
    "finetune.captioning.validation.exact_match": ("Captions, exact match", VALIDATION),
    "finetune.captioning.validation.cider": ("Captions, CIDEr", VALIDATION),
    "finetune.vqa.validation.accuracy": ("All questions, accuracy", VALIDATION),
    "filter.roc_auc": ("Filter, ROC AUC", POOL),
    "filter.precision": ("Filter, right of the web texts kept", POOL),
    "filter.recall": ("Filter, kept of the right web texts", POOL),
}
CIDER = ("captioning.cider", "captioner.validation.cider", "finetune.captioning.validation.cider")
CIDER_MOST = 10.0  # what it can be at the most
MEASURED = (  # figure, the figure that is its baseline, what that is
    ("vqa.accuracy", "vqa.question_only", "question only"),
    ("vqa.open_accuracy", "vqa.question_only_open", "question only"),
    ("captioning.exact_match", "captioning.always_commonest", "always the commonest"),
    ("captioner.validation.exact_match", "captioner.validation.always_commonest", "always the commonest"),
    (
        "finetune.captioning.validation.exact_match",
        "finetune.captioning.validation.always_commonest",
        "always the commonest",
    ),
    ("finetune.vqa.validation.accuracy", "finetune.vqa.validation.question_only", "question only"),
    ("compare.bootstrapped.itc.i2t_r1", "compare.pretrain.itc.i2t_r1", "noisy pool"),
)
AT_RANDOM = (  # figure, what an order at random is expected to reach, the count of candidates, what they are
    ("retrieval.i2t_r1", "retrieval.chance.i2t_r1", "retrieval.texts", "texts"),
    ("retrieval.i2t_r10", "retrieval.chance.i2t_r10", "retrieval.texts", "texts"),
    ("retrieval.t2i_r1", "retrieval.chance.t2i_r1", "retrieval.images", "pictures"),
    ("retrieval.t2i_r10", "retrieval.chance.t2i_r10", "retrieval.images", "pictures"),
    ("compare.pretrain.itc.i2t_r1", "retrieval.chance.i2t_r1", "retrieval.texts", "texts"),
    ("video.t2v_r1", "video.chance.t2v_r1", "video.clips", "clips"),
)
AUCS = ("filter.validation_auc", "capfilt.validation_auc", "filter.roc_auc")
# Figures that a stage leaves out where its data cannot tell them: a pool without known truth, no open question
OF_SOME_DATA = {
    "vqa.open_accuracy": "evaluate@vqa",
    "filter.roc_auc": "capfilt",
    "filter.precision": "capfilt",
    "filter.recall": "capfilt",
}


@dataclass(frozen=True)
class Baseline:
    """What a figure is without having learnt anything, and how that is known."""

    value: float
    name: str


@dataclass(frozen=True)
class Gate:
    """What a model must reach to enter the registry."""

    model: str
    minimum: float


@dataclass(frozen=True)
class Row:
    """A line of the result table; `value` is None when the stage that measures it has not run."""

    name: str
    label: str
    group: str
    value: float | None
    gate: Gate | None
    baseline: Baseline | None

    @property
    def passed(self) -> bool | None:
        """Whether the gate is reached; None without a gate or a value."""
        return None if self.gate is None or self.value is None else self.value >= self.gate.minimum

    @property
    def of_pool(self) -> bool:
        """Whether it holds the filter against the truth of the web pool."""
        return self.group == POOL

    def share(self, value: float) -> str:
        """How far along its bar a value stands, as CSS says it: `66.3%`."""
        return f"{100 * min(1.0, max(0.0, value / (CIDER_MOST if self.name in CIDER else 1.0))):.2f}%"

    def shown(self, value: float) -> str:
        """A value as text: shares in percent, ROC AUC and CIDEr as they are."""
        if self.name in AUCS:
            return f"{value:.3f}"
        return f"{value:.2f}" if self.name in CIDER else f"{100 * value:.1f}%"


def summary(found: Artefacts, seconds: float) -> dict[str, float]:
    """The flat figures of metrics/summary.json; what was not measured is left out.

    Args:
        seconds: what the report itself took.

    Returns:
        The figures of SUMMARY, `seconds.STAGE` with `_` for `@`, and `seconds.total` once all stages have run: what
        they took when they last did. The clock would count a night between two of them, and where all but the last
        one are kept nothing but that.
    """
    figures = found.figures
    values = {name: figures.get(BOOTSTRAP.get(name, name)) for name in SUMMARY}
    measured = {name: value for name, value in values.items() if value is not None}
    stages = {f"seconds.{stage.replace('@', '_')}": spent for stage, spent in found.seconds.items()}
    spent = found.seconds | {REPORT: seconds}
    total = (
        {"seconds.total": round(sum(spent.values()), 1)}
        if spent.keys() >= STAGES.keys() - found.left_out
        else {}
    )
    return measured | total | stages


def _is_left_out(figure: str, found: Artefacts) -> bool:
    """Whether no stage is to measure the figure."""
    group = figure.removeprefix("finetune.").split(".")[0]
    stage = f"finetune@{group}" if figure.startswith("finetune.") else f"evaluate@{group}"
    return stage in found.left_out


def _cannot_be_measured(figure: str, found: Artefacts) -> bool:
    """Whether the stage that measures the figure has run, on data that do not tell it."""
    return OF_SOME_DATA.get(figure) in found.stages and figure not in found.figures


def result_table(found: Artefacts, gates: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """A row for every figure of LABELS, in their order, and for every other that a gate names.

    What is left out has none, nor what a stage that has run could not measure and no gate asks for.

    Args:
        gates: `register.gate` of the settings, model to figure to minimum.
    """
    by_figure = {
        figure: Gate(model, low) for model, figures in gates.items() for figure, low in figures.items()
    }
    figures = found.figures
    known = baselines(figures)
    names = [
        name
        for name in LABELS
        if not _is_left_out(name, found) and (name in by_figure or not _cannot_be_measured(name, found))
    ]
    names += [figure for figure in by_figure if figure not in LABELS]
    return [
        Row(
            name,
            *LABELS.get(name, (name, "Other gates")),
            figures.get(name),
            by_figure.get(name),
            known.get(name),
        )
        for name in names
    ]


def baselines(figures: Mapping[str, float]) -> dict[str, Baseline]:
    """Chance, or what answers without looking get, for each figure of which the stages have measured that."""
    known = {name: Baseline(0.5, "chance") for name in AUCS}
    for name, value, count, what in AT_RANDOM:
        if value in figures and count in figures:
            known[name] = Baseline(figures[value], f"chance, {figures[count]:,.0f} {what}")
    if classes := figures.get("classification.classes"):
        known["classification.top1"] = Baseline(1 / classes, f"chance, {classes:,.0f} classes")
    return known | {
        name: Baseline(figures[other], what) for name, other, what in MEASURED if other in figures
    }

"""blip stage compare: does bootstrapping help, and what does re-ranking add?

The same retrieval protocol on the test data for the model pre-trained on the noisy pool, the one pre-trained
on the bootstrapped pairs (of CapFilt's last round), and that one fine-tuned for retrieval; each by embeddings alone
(the figures `compare.NAME.itc.*`) and re-ranked by the ITM head (`compare.NAME.*`). `compare.gain` is what
bootstrapping gave, with an interval over the test pictures. Writes reports/compare/table.json and chart.png, and
metrics/compare.json.
"""

from typing import TYPE_CHECKING

from blip.atomic import atomic_path, write_json
from blip.config import Settings
from blip.config.places import REPORTS
from blip.tasks.comparison import Evaluated, How, evaluate
from blip.tasks.inputs import model_directory, open_model, read_samples
from blip.tasks.resampling import gain_half_width
from blip.tasks.rounds import last_model
from blip.tracking.measured import Scores, measured
from blip.tracking.runs import StageRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = REPORTS / "compare"
COMPARED = {"pretrain": "pretrain", "bootstrapped": "pretrain_bootstrapped", "finetuned": "retrieval"}
HEADS = {"itc": "embeddings (ITC)", "itm": "re-ranked (ITC + ITM)"}

Row = dict[str, float]
Table = dict[str, dict[str, Row]]  # by model and head


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Evaluate the three models and draw them side by side.

    Raises:
        BlipError: a model or the test data is not there.
    """
    models = {name: last_model(stage, settings) for name, stage in COMPARED.items()}
    evaluated = {name: _evaluate(settings, directory) for name, directory in models.items()}
    table = {name: _rows(found) for name, found in evaluated.items()}
    figure = draw(table)
    with atomic_path(REPORT) as temporary:
        temporary.mkdir()
        write_json(temporary / "table.json", table)
        figure.savefig(temporary / "chart.png", dpi=120)
    run.log_figure(figure, "compare.png")
    for name, directory in models.items():
        how = measured(
            [model_directory(directory)], settings.evaluate.retrieval.data, settings, "evaluate.retrieval"
        )
        run.note(Scores.of(_flat({name: table[name]}), how))
    return _flat(table) | _gain(evaluated["pretrain"], evaluated["bootstrapped"])


def _evaluate(settings: Settings, directory: str) -> Evaluated:
    """A model on the test data."""
    task = settings.evaluate.retrieval
    model = open_model(directory, settings.compute)
    how = How(settings.evaluate.batch_size, task.rerank if model.can_match else 0, task.rerank_by)
    return evaluate(model, read_samples(task.data), how)


def _rows(found: Evaluated) -> dict[str, Row]:
    """Recall by head, each with `r1`: the mean of both directions' recall@1."""
    recalls = {head: answers.recalls for head, answers in found.heads.items()}
    return {head: row | {"r1": (row["i2t_r1"] + row["t2i_r1"]) / 2} for head, row in recalls.items()}


def _gain(before: Evaluated, after: Evaluated) -> Row:
    """What bootstrapping gave: image-to-text R@1 of the embeddings, half its interval, the number of images."""
    first, second = (found.hits("itc")["i2t_r1"] for found in (before, after))
    gain = after.heads["itc"].recalls["i2t_r1"] - before.heads["itc"].recalls["i2t_r1"]
    half = gain_half_width(first.numpy(), second.numpy())
    return {"compare.gain": gain, "compare.gain_half": half, "compare.images": float(len(second))}


def _flat(table: Table) -> dict[str, float]:
    prefixes = {"itm": "", "itc": "itc."}
    return {
        f"compare.{name}.{prefixes[head]}{metric}": value
        for name, heads in table.items()
        for head, row in heads.items()
        for metric, value in row.items()
    }


def draw(table: Table) -> "Figure":
    """Recall@1 of every model, one panel a direction, one bar a head."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (metric, title) in zip(
        panels, (("i2t_r1", "image to text"), ("t2i_r1", "text to image")), strict=True
    ):
        for place, (head, label) in enumerate(HEADS.items()):
            heights = {
                n: 100 * heads[head][metric] for n, heads in enumerate(table.values()) if head in heads
            }
            bars = panel.bar([n + 0.4 * place for n in heights], list(heights.values()), 0.38, label=label)
            panel.bar_label(bars, fmt="%.1f", fontsize=8)
        panel.set_xticks([n + 0.2 for n in range(len(table))], list(table))
        panel.set(title=f"{title}, recall@1 in %", ylim=(0, 105))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    return figure

"""blip stage compare: does bootstrapping help, and what does re-ranking add?

The same retrieval protocol on the test data for the model pre-trained on the noisy pool, the one pre-trained
on the bootstrapped pairs (of CapFilt's last round), and that one fine-tuned for retrieval; each by embeddings alone
(the figures `compare.NAME.itc.*`) and re-ranked by the ITM head (`compare.NAME.*`). `compare.gain` is what
bootstrapping gave, with an interval over the test pictures. Writes metrics/compare.json, which the report draws.
"""

from blip.config import Settings
from blip.config.rounds import last_model
from blip.tasks.comparison import Evaluated, How, evaluate
from blip.tasks.inputs import model_directory, open_model, read_samples
from blip.tasks.resampling import gain_interval
from blip.tracking.measured import Scores, measured
from blip.tracking.runs import StageRun

COMPARED = {"pretrain": "pretrain", "bootstrapped": "pretrain_bootstrapped", "finetuned": "retrieval"}
PREFIXES = {"itm": "", "itc": "itc."}  # of a head's figures


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Evaluate the three models.

    Raises:
        BlipError: a model or the test data is not there.
    """
    models = {name: last_model(stage, settings) for name, stage in COMPARED.items()}
    evaluated = {name: _evaluate(settings, directory) for name, directory in models.items()}
    figures: dict[str, float] = {}
    for name, directory in models.items():
        found = _figures(name, evaluated[name])
        how = measured(
            [model_directory(directory)], settings.evaluate.retrieval.data, settings, "evaluate.retrieval"
        )
        run.note(Scores.of(found, how))
        figures |= found
    return figures | _gain(evaluated["pretrain"], evaluated["bootstrapped"])


def _evaluate(settings: Settings, directory: str) -> Evaluated:
    """A model on the test data."""
    task = settings.evaluate.retrieval
    model = open_model(directory, settings.compute)
    how = How(settings.evaluate.batch_size, task.rerank if model.can_match else 0, task.rerank_by)
    return evaluate(model, read_samples(task.data), how)


def _figures(name: str, found: Evaluated) -> dict[str, float]:
    """Recall by head, each with `r1`: the mean of both directions' recall@1."""
    rows = {head: answers.recalls for head, answers in found.heads.items()}
    return {
        f"compare.{name}.{PREFIXES[head]}{metric}": value
        for head, row in rows.items()
        for metric, value in (row | {"r1": (row["i2t_r1"] + row["t2i_r1"]) / 2}).items()
    }


def _gain(before: Evaluated, after: Evaluated) -> dict[str, float]:
    """What bootstrapping gave: image-to-text R@1 of the embeddings, half its interval, the number of images."""
    first, second = (found.hits("itc")["i2t_r1"].numpy() for found in (before, after))
    gain = after.heads["itc"].recalls["i2t_r1"] - before.heads["itc"].recalls["i2t_r1"]
    low, high = gain_interval(first, second)
    return {"compare.gain": gain, "compare.gain_half": (high - low) / 2, "compare.images": float(len(second))}

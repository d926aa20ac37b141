"""What the gate may ask for: models that the pipeline makes, figures that its stages measure, shares as shares.

require_gate(settings)      # BadArguments: register.gate: ... did you mean 'finetune.vqa.validation.accuracy'?
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from blip.config import Settings
from blip.config.places import MODELS
from blip.config.rounds import ROUNDS, last_model
from blip.errors import BadArguments

RECALLS = tuple(f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10))
RETRIEVAL = tuple(f"validation.{head}{recall}" for head in ("", "itc.") for recall in RECALLS)
CAPTIONING = tuple(
    f"validation.{name}"
    for name in ("exact_match", "cider", "bleu4", "rouge_l", "always_commonest", "reference_words")
)
QUESTIONS = tuple(
    f"validation.{name}"
    for name in (
        *("accuracy", "open_accuracy", "yes_no_accuracy"),
        *("question_only", "question_only_open", "question_only_yes_no"),
    )
)
MATCHING = ("validation_auc", "validation_accuracy", "validation_itc_auc")
NO_SHARES = ("cider", "reference_words")


@dataclass(frozen=True)
class Candidate:
    """A model of the pipeline: its directory, the stage that trained it, what it is served for, what it is asked.

    Attributes:
        figures: what its stage measures on validation data, each without the stage's name.
    """

    directory: Path
    stage: str
    task: str
    figures: tuple[str, ...]

    def of_last_round(self, settings: Settings) -> "Candidate":
        """The model that stands in its place with more than one round of CapFilt; itself where none does."""
        last = last_model(self.stage, settings)
        return self if last == self.stage else replace(self, directory=MODELS / last, stage=ROUNDS)

    @property
    def measured(self) -> list[str]:
        """The names of its figures."""
        return [f"{self.stage.replace('@', '.')}.{figure}" for figure in self.figures]


CANDIDATES = {
    "blip-base": Candidate(MODELS / "pretrain_bootstrapped", "pretrain_bootstrapped", "embed", RETRIEVAL),
    "blip-captioner": Candidate(MODELS / "captioner", "captioner", "caption", CAPTIONING),
    "blip-filter": Candidate(MODELS / "filter", "filter", "match", MATCHING),
    "blip-retrieval": Candidate(MODELS / "retrieval", "finetune@retrieval", "match", RETRIEVAL),
    "blip-captioning": Candidate(MODELS / "captioning", "finetune@captioning", "caption", CAPTIONING),
    "blip-vqa": Candidate(MODELS / "vqa", "finetune@vqa", "answer", QUESTIONS),
}


def require_gate(settings: Settings) -> None:
    """Raise BadArguments with the first model, figure or minimum of the gate that no run of the pipeline could pass.

    Of figures those on validation data are known here; those on test data, which a gate may name, are let by.
    """
    for model, minimums in settings.gate.items():
        if model not in CANDIDATES:
            raise BadArguments(
                f"register.gate: no model {model!r}; the pipeline makes: {', '.join(CANDIDATES)}"
            )
        for figure, minimum in minimums.items():
            _require_figure(model, figure, minimum)
    known = {figure for candidate in CANDIDATES.values() for figure in candidate.measured}
    known |= {figure for minimums in settings.register_.gate.values() for figure in minimums}
    for name in settings.register_.tolerances:
        if not any(f".{figure}".endswith(f".{name}") for figure in known):
            ends = {figure.rpartition(".")[2] for figure in known} | known
            raise BadArguments(f"register.tolerances: no figure ends in {name!r}{_hint(name, ends)}")


def _require_figure(model: str, figure: str, minimum: float) -> None:
    measured = CANDIDATES[model].measured
    if ".validation" in figure and figure not in measured:
        raise BadArguments(
            f"register.gate: {model} must reach {figure}, which nothing measures of it{_hint(figure, measured)}"
        )
    if figure in measured and minimum > 1 and not figure.endswith(NO_SHARES):
        raise BadArguments(
            f"register.gate: {model} must reach {figure} {minimum:g}, which is a share: 0.6 is 60 per cent"
        )


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

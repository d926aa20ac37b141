"""What CapFilt decided about one web picture, as the report's pages show it.

decision = decide(row, known)     # a row of audit.parquet, what the pool knows of the sample
decision.outcome, [text.reason for text in decision.texts]
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from blip.data.text import clean_caption
from blip.report.pool import Known

JUDGED = ("texts", "score", "neighbours", "likelihood", "reason")
Outcome = Literal["kept", "replaced", "dropped"]
OUTCOMES: dict[Outcome, str] = {
    "kept": "web text kept",
    "replaced": "web text dropped, synthetic caption kept",
    "dropped": "nothing kept, picture dropped",
}
ORIGINS = {"web": "web texts", "synthetic": "synthetic captions"}
REASONS = {
    "no_match": "below the threshold",
    "empty": "without a word",
    "repeats": "repeats itself",
    "prompt": "begins with the prompt",
    "same": "its words are kept in another text",
}
DROPPED = {
    "no_match": "no text passed",
    "no_text": "no text has a word",
    "bad_picture": "the picture cannot be decoded",
}
"""The reasons of audit.parquet in words: why a text was dropped, why a picture was.

`same` is no reason of the audit: a text that is below its threshold says what another says that is kept."""


SUREST = 1e-6  # a probability as near to 0 or 1 as a chart shows it


def log_odds(probability: float) -> float:
    """Of a probability, for a chart: which of those near 0 and 1 it is cannot be told."""
    bounded = min(max(probability, SUREST), 1 - SUREST)
    return math.log(bounded / (1 - bounded))


def probability(log_odds: float) -> float:
    """Whose log-odds these are."""
    return 1 / (1 + math.exp(-log_odds))


def probability_text(probability: float) -> str:
    """In three digits, or in two of what it lacks of 1 where it would read 1 and is less."""
    short = f"{probability:.3g}"
    if short != "1" or probability == 1:
        return short
    return f"{probability:.{1 - math.floor(math.log10(1 - probability))}f}".rstrip("0")


@dataclass(frozen=True)
class Text:
    """A text about a picture, the probability that it matches, and why it was dropped ("": it was not).

    Attributes:
        neighbours, likelihood: what of the score's log-odds similar pictures and the captioner have added.
    """

    text: str
    origin: str
    score: float
    neighbours: float
    likelihood: float
    reason: str

    @property
    def voices(self) -> dict[str, float]:
        """Who had a say, and the log-odds each adds up to the score; empty where the filter decided alone.

        A score of 0 or 1, to which those of the surest texts are rounded, does not tell the filter's.
        """
        others = {"similar pictures": self.neighbours, "captioner": self.likelihood}
        heard = {name: value for name, value in others.items() if value}
        if not heard or self.score in (0, 1):
            return heard
        return {"filter": math.log(self.score / (1 - self.score)) - sum(heard.values())} | heard

    @property
    def kept(self) -> bool:
        """Whether the text is in the bootstrapped dataset."""
        return not self.reason


@dataclass(frozen=True)
class Decision:
    """One web picture: what was decided and why nothing was kept ("": something was), and what the pool knows."""

    key: str
    texts: tuple[Text, ...]
    outcome: Outcome
    reason: str
    known: Known

    def of(self, origin: str) -> list[Text]:
        """Its web texts, or its synthetic captions."""
        return [text for text in self.texts if text.origin == origin]

    @property
    def kept(self) -> list[Text]:
        """The texts that it has afterwards, none twice."""
        found: dict[str, Text] = {}
        for text in self.texts:
            if text.kept:
                found.setdefault(clean_caption(text.text), text)
        return list(found.values())


def decide(row: dict[str, Any], known: Known) -> Decision:
    """The decision that a row of the audit tells."""
    texts = tuple(
        Text(text, origin, *judged)
        for origin in ORIGINS
        for text, *judged in zip(*(row[f"{origin}_{what}"] for what in JUDGED), strict=True)
    )
    words = {clean_caption(text.text) for text in texts if text.kept}
    texts = tuple(
        replace(text, reason="same")
        if text.reason == "no_match" and clean_caption(text.text) in words
        else text
        for text in texts
    )
    kept = {text.origin for text in texts if text.kept}
    outcome: Outcome = "kept" if "web" in kept else "replaced" if kept else "dropped"
    return Decision(row["key"], texts, outcome, row["reason"], known)

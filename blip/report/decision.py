"""What CapFilt decided about one web picture, as the report's pages show it.

decision = decide(row, known)     # a row of audit.parquet, what the pool knows of the sample
decision.outcome, [text.reason for text in decision.texts]
"""

from dataclasses import dataclass
from typing import Any, Literal

from blip.data.text import clean_caption
from blip.report.pool import Known

Outcome = Literal["kept", "rescued", "dropped"]
OUTCOMES: dict[Outcome, str] = {
    "kept": "web text kept",
    "rescued": "web text dropped, synthetic caption kept",
    "dropped": "nothing kept, picture dropped",
}
ORIGINS = {"web": "web texts", "synthetic": "synthetic captions"}
REASONS = {
    "no_match": "below the threshold",
    "empty": "without a word",
    "repeats": "repeats itself",
    "prompt": "begins with the prompt",
}
DROPPED = {"no_match": "no text passed", "no_text": "no text has a word"}
"""The reasons of audit.parquet in words: why a text was dropped, why a picture was."""


@dataclass(frozen=True)
class Text:
    """A text about a picture, the filter's probability that it matches, and why it was dropped ("": it was not)."""

    text: str
    origin: str
    score: float
    reason: str

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
        Text(text, origin, score, reason)
        for origin in ORIGINS
        for text, score, reason in zip(
            *(row[f"{origin}_{what}"] for what in ("texts", "score", "reason")), strict=True
        )
    )
    kept = {text.origin for text in texts if text.kept}
    outcome: Outcome = "kept" if "web" in kept else "rescued" if kept else "dropped"
    return Decision(row["key"], texts, outcome, row["reason"], known)

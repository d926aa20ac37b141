"""What is decided about one web image: its texts, their scores, which are kept, and why the others are not."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from blip.capfilt.rules import EMPTY
from blip.data.pairs import Caption, Sample

NO_MATCH = "no_match"
BAD_PICTURE = "bad_picture"

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("web_texts", pa.list_(pa.string())),
        ("synthetic_texts", pa.list_(pa.string())),
        ("web_itm", pa.list_(pa.float32())),
        ("web_itc", pa.list_(pa.float32())),
        ("synthetic_itm", pa.list_(pa.float32())),
        ("synthetic_itc", pa.list_(pa.float32())),
        ("web_score", pa.list_(pa.float64())),
        ("synthetic_score", pa.list_(pa.float64())),
        ("web_neighbours", pa.list_(pa.float32())),
        ("synthetic_neighbours", pa.list_(pa.float32())),
        ("web_likelihood", pa.list_(pa.float32())),
        ("synthetic_likelihood", pa.list_(pa.float32())),
        ("kept", pa.list_(pa.string())),
        ("web_kept", pa.list_(pa.bool_())),
        ("synthetic_kept", pa.list_(pa.bool_())),
        ("web_reason", pa.list_(pa.string())),
        ("synthetic_reason", pa.list_(pa.string())),
        ("reason", pa.string()),
    ]
)
"""audit.parquet: a row an image. `score` is the probability that decides, as it was compared with the threshold;
`neighbours` and `likelihood` are what of its log-odds similar pictures of the pool and the captioner have added, the
rest is the filter's own. The reasons say why a
text was not kept (`empty`, `repeats`, `prompt`, `no_match`), and why no text of an image was (`no_text`, `no_match`;
`bad_picture`, which has no texts here: it cannot be decoded).
"""


@dataclass(frozen=True)
class Judged:
    """A text with its scores.

    Attributes:
        score: the probability of matching that decides.
        neighbours, likelihood: what of its log-odds similar pictures and the captioner have added.
        reason: why it is not kept; the empty string if it is.
    """

    caption: Caption
    score: float
    neighbours: float
    likelihood: float
    reason: str


@dataclass(frozen=True)
class Decision:
    """One web image with its texts, judged; web texts as many as the sample has, in its order.

    Attributes:
        problem: why the picture cannot be decoded, and nothing was judged; the empty string if it can.
    """

    sample: Sample
    web: tuple[Judged, ...] = ()
    synthetic: tuple[Judged, ...] = ()
    problem: str = ""

    @property
    def kept(self) -> tuple[Caption, ...]:
        """The texts that are kept, the web texts first, none of them twice."""
        texts: dict[str, Caption] = {}
        for text in self._all:
            if not text.reason:
                texts.setdefault(text.caption.text, text.caption)
        return tuple(texts.values())

    @property
    def reason(self) -> str:
        """Why nothing is kept, or the empty string."""
        if self.problem:
            return BAD_PICTURE
        if self.kept:
            return ""
        return "no_text" if all(text.reason == EMPTY for text in self._all) else NO_MATCH

    def audit_row(self) -> dict[str, Any]:
        """The row of audit.parquet."""
        web, synthetic = self.web, self.synthetic
        return {
            "key": self.sample.key,
            "web_texts": [caption.text for caption in self.sample.captions if not self.problem],
            "synthetic_texts": [text.caption.text for text in synthetic],
            "web_itm": [text.caption.itm for text in web],
            "web_itc": [text.caption.itc for text in web],
            "synthetic_itm": [text.caption.itm for text in synthetic],
            "synthetic_itc": [text.caption.itc for text in synthetic],
            "web_score": [text.score for text in web],
            "synthetic_score": [text.score for text in synthetic],
            "web_neighbours": [text.neighbours for text in web],
            "synthetic_neighbours": [text.neighbours for text in synthetic],
            "web_likelihood": [text.likelihood for text in web],
            "synthetic_likelihood": [text.likelihood for text in synthetic],
            "kept": [caption.text for caption in self.kept],
            "web_kept": [not text.reason for text in web],
            "synthetic_kept": [not text.reason for text in synthetic],
            "web_reason": [text.reason for text in web],
            "synthetic_reason": [text.reason for text in synthetic],
            "reason": self.reason,
        }

    @property
    def _all(self) -> tuple[Judged, ...]:
        return (*self.web, *self.synthetic)

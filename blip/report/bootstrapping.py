"""The page of one bootstrapped dataset: what CapFilt kept of a pool and what not, with pictures.

    made = Bootstrapping.open(Path("pairs/noisy"), Path("pairs/clean"), seed=0, shown=12)
    write_text(Path("gallery.html"), made.html())

One HTML file without scripts or outside resources, of the same parts as the pipeline's report; `markdown` has its
tables alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from blip.data.pairs import SET_ASIDE, PairsDataset
from blip.errors import BlipError
from blip.report.audit import AUDIT, Audit, read_audit
from blip.report.chart import Chart
from blip.report.decision import ORIGINS, OUTCOMES, REASONS, probability_text
from blip.report.figures import score_charts, source_chart
from blip.report.gallery import capfilt_pictures
from blip.report.templating import environment, groups


@dataclass(frozen=True)
class Bootstrapping:
    """A pool, the dataset that CapFilt made of it, and the audit of that.

    Attributes:
        parameters: how it was made, as the dataset's manifest says.
        samples: of the dataset, with the human ones that passed through.
        seed: that chose what is shown.
    """

    web: Path
    target: Path
    audit: Audit
    parameters: Mapping[str, Any]
    samples: int
    seed: int

    @classmethod
    def open(
        cls, web: Path, target: Path, *, seed: int, shown: int, by: str | None = None
    ) -> "Bootstrapping":
        """Read the audit.

        Args:
            shown: decisions of each kind.
            by: column of the pool's metadata that tells the sources.

        Raises:
            BlipError: `target` was not made of `web` by CapFilt.
            BadArguments: there is no such column.
        """
        pool, made = PairsDataset.open(web), PairsDataset.open(target)
        if not (target / AUDIT).is_file():
            raise BlipError(
                f"{target} has no {AUDIT}: `blip capfilt {web} {target}` writes one, others do not"
            )
        if pool.digest not in made.manifest.parents:
            raise BlipError(
                f"{target} was not made of {web}: its manifest names no such parent; name the dataset that "
                "`blip capfilt` was given, as it was then"
            )
        audit = read_audit(target, web, seed=seed, shown=shown, by=by) or Audit()
        return cls(web, target, audit, made.manifest.parameters, len(made), seed)

    @property
    def thresholds(self) -> tuple[float, float]:
        """The probabilities from which a web text and a synthetic caption were kept."""
        return float(self.parameters["threshold"]), float(self.parameters["synthetic_threshold"])

    @property
    def set_aside(self) -> int:
        """Pictures of the pool that validation had set aside before, so that none was judged."""
        return self.parameters.get(SET_ASIDE, {}).get("web", 0)

    @property
    def headline(self) -> str:
        """What one wants to know first."""
        audit = self.audit
        kept = audit.pictures - audit.count("dropped")
        web, synthetic = audit.once["web"], audit.once["synthetic"]
        stay = f"{kept:,} of {audit.pictures:,} pictures stay"
        texts = f"{web:,} web text{'' if web == 1 else 's'}"
        return f"{stay}, with {texts} and {synthetic:,} synthetic caption{'' if synthetic == 1 else 's'}"

    @property
    def facts(self) -> dict[str, str]:
        """How the dataset was made, in words."""
        known = self.parameters
        web, written = self.thresholds
        captions = f"{known['captions_per_image']} an image, {known['decoding']}"
        apart = known.get("validation_auc")
        passed = self.samples - self.audit.pictures + self.audit.count("dropped")
        return {
            "Kept from a probability of": probability_text(web)
            + (f", captions {probability_text(written)}" if written != web else ""),
            "Filters": f"{len(known['filters'])}, head {known['head']}",
            "Views of a picture": ", ".join(f"{share:g}" for share in known["views"]),
            "Weight of the captioner": f"{known['likelihood']:g}",
            "Weight of similar pictures": f"{known['neighbours']:g}",
            **({"Held-out pairs told apart, ROC AUC": f"{apart:.3f}"} if apart is not None else {}),
            "Captions": captions + (f", p {known['top_p']:g}" if known["decoding"] == "nucleus" else ""),
            "Seed of the captions": str(known["seed"]),
            "Human pairs beside them": f"{passed:,}",
            **({"Set aside by validation before": f"{self.set_aside:,}"} if self.set_aside else {}),
        }

    @property
    def counts(self) -> dict[str, Any]:
        """The counts of the page for a program."""
        audit = self.audit
        return {
            "images": audit.pictures,
            "set_aside": self.set_aside,
            "outcomes": {name: audit.count(name) for name in OUTCOMES},
            "reasons": dict(audit.reasons.most_common()),
            "texts": {
                origin: {
                    "judged": audit.judged(origin),
                    "kept": audit.kept(origin),
                    "once": audit.once[origin],
                    "dropped": {
                        why: number for why in audit.text_reasons if (number := audit.texts[origin, why])
                    },
                }
                for origin in ORIGINS
            },
            "told_by": audit.told_by,
            "sources": [vars(source) for source in audit.sources.largest()],
        }

    @cached_property
    def scores(self) -> list[Chart]:
        """Histograms of the scores with the thresholds."""
        return score_charts(self.audit, *self.thresholds)

    @property
    def charts(self) -> list[Chart]:
        """The scores, and what was kept of each source where there are several."""
        by_source = source_chart(self.audit.sources)
        return [*self.scores, by_source] if by_source else self.scores

    def html(self) -> str:
        """The page."""
        return (
            environment()
            .get_template("gallery.html.j2")
            .render(
                made=self,
                audit=self.audit,
                seed=self.seed,
                plots=self.scores,
                groups=groups(self.audit),
                pictures=capfilt_pictures(self.audit, self.web),
            )
        )

    def markdown(self) -> str:
        """The tables of the page: outcomes, texts with the reasons why they were dropped, sources."""
        before = f" {self.set_aside:,} more were set aside by validation before." if self.set_aside else ""
        parts = [f"{self.headline}.{before}", _outcomes(self.audit), _texts(self.audit)]
        return "\n\n".join(parts + ([_sources(self.audit)] if len(self.audit.sources) > 1 else [])) + "\n"


def _outcomes(audit: Audit) -> str:
    rows = [
        (title, audit.count(name), audit.count(name) / max(1, audit.pictures))
        for name, title in OUTCOMES.items()
    ]
    return _table(
        ("Pictures", "all", "share"),
        [
            ("before", f"{audit.pictures:,}", ""),
            *((title, f"{count:,}", _percent(share)) for title, count, share in rows),
        ],
    )


def _texts(audit: Audit) -> str:
    rows = []
    for origin, title in ORIGINS.items():
        judged, kept = audit.judged(origin), audit.kept(origin)
        dropped = [f"{audit.texts[origin, reason]:,}" for reason in audit.text_reasons]
        rows.append(
            (title, f"{judged:,}", f"{kept:,}", _percent(kept / judged if judged else None), *dropped)
        )
    why = [f"dropped: {REASONS.get(reason, reason)}" for reason in audit.text_reasons]
    table = _table(("Texts", "all", "kept", "share", *why), rows)
    if not audit.repeated:
        return table
    return f"{table}\n\nKept texts that repeat another one of their picture, in the dataset once: {audit.repeated:,}."


def _sources(audit: Audit) -> str:
    rows = [
        (
            source.name,
            f"{source.pictures:,}",
            *map(_percent, (source.web_share, source.synthetic_share, source.dropped_share)),
        )
        for source in audit.sources.largest()
    ]
    header = ("Source", "pictures", "web texts kept", "synthetic kept", "pictures dropped")
    return f"The source of a picture is told by {audit.told_by}.\n\n" + _table(header, rows)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ("-", *["-:"] * (len(header) - 1)), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Words of a table: names come from data, and none of them may end a cell or become markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"

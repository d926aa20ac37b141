"""What a row of the audit tells of one picture."""

from blip.report.decision import REASONS, decide
from blip.report.pool import Known


def row(web: list[tuple[str, str]], synthetic: list[tuple[str, str]]) -> dict[str, object]:
    """Texts with the reasons why they were dropped."""
    found: dict[str, object] = {"key": "web-1", "reason": ""}
    for origin, texts in (("web", web), ("synthetic", synthetic)):
        found |= {
            f"{origin}_texts": [text for text, _ in texts],
            f"{origin}_reason": [why for _, why in texts],
        }
        found |= {f"{origin}_{what}": [0.5] * len(texts) for what in ("score", "neighbours", "likelihood")}
    return found


def test_a_caption_below_its_threshold_that_is_the_kept_web_text_is_told_apart() -> None:
    synthetic = [("fuel pump", "no_match"), ("a pump", "no_match"), ("fuel pump", "repeats")]
    told = decide(row([("Fuel  pump!", "")], synthetic), Known())
    assert [text.reason for text in told.of("synthetic")] == ["same", "no_match", "repeats"]
    assert "same as the kept web text" in REASONS["same"]
    assert told.outcome == "kept" and [text.origin for text in told.kept] == ["web"]


def test_where_the_web_text_is_dropped_too_both_are_below_their_thresholds() -> None:
    told = decide(row([("fuel pump", "no_match")], [("fuel pump", "no_match")]), Known())
    assert [text.reason for text in told.texts] == ["no_match", "no_match"]

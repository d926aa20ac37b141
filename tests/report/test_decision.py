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
    assert REASONS["same"] == "its words are kept in another text"
    assert told.outcome == "kept" and [text.origin for text in told.kept] == ["web"]


def test_a_web_text_below_its_threshold_whose_words_are_kept_is_told_apart() -> None:
    told = decide(row([("fuel pump", "no_match"), ("a pump", "no_match")], [("Fuel pump", "")]), Known())
    assert [text.reason for text in told.of("web")] == ["same", "no_match"]
    assert told.outcome == "replaced" and [text.origin for text in told.kept] == ["synthetic"]
    told = decide(row([("Fuel pump", ""), ("fuel pump", "no_match")], []), Known())
    assert [text.reason for text in told.of("web")] == ["", "same"]


def test_where_the_web_text_is_dropped_too_both_are_below_their_thresholds() -> None:
    told = decide(row([("fuel pump", "no_match")], [("fuel pump", "no_match")]), Known())
    assert [text.reason for text in told.texts] == ["no_match", "no_match"]

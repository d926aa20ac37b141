"""What was kept of each source."""

from blip.report.decision import Decision, decide
from blip.report.pool import Known
from blip.report.sources import Sources


def decision(source: str, web: list[str], made: list[str]) -> Decision:
    """A picture of a source whose texts have these reasons."""
    row = {
        f"{origin}_{what}": values
        for origin, reasons in (("web", web), ("synthetic", made))
        for what, values in (
            ("texts", [f"{origin} {n}" for n in range(len(reasons))]),
            ("score", [0.5] * len(reasons)),
            ("neighbours", [0.0] * len(reasons)),
            ("likelihood", [0.0] * len(reasons)),
            ("reason", reasons),
        )
    }
    return decide({**row, "key": "k", "reason": ""}, Known(source))


def counted(names: str, held: int = 100) -> Sources:
    sources = Sources(held)
    for name in names:
        sources.count(decision(name, [""], ["no_match"]))
    return sources


def test_texts_and_pictures_are_counted_by_source() -> None:
    sources = Sources()
    sources.count(decision("shop", ["", "no_match"], ["no_match"]))
    sources.count(decision("shop", ["no_match"], ["repeats"]))
    sources.count(decision("", [], [""]))

    shop, unknown = sources.largest()

    assert (shop.web_share, shop.synthetic_share, shop.dropped_share) == (1 / 3, 0.0, 0.5)
    assert (unknown.name, unknown.web_share, unknown.synthetic_share) == ("not known", None, 1.0)


def test_the_largest_are_named_and_the_rest_is_one() -> None:
    shown = counted("abbccc").largest(1)
    assert [(source.name, source.pictures) for source in shown] == [("c", 3), ("2 others", 3)]
    assert [source.name for source in counted("aab").largest(1)] == ["a", "1 other"]


def test_however_many_sources_there_are_few_are_held_and_no_picture_is_lost() -> None:
    sources = Sources(held=10)
    for number in range(1000):
        sources.count(decision(f"small {number}", [""], [""]))
        sources.count(decision("large", [""], ["no_match"]))

    shown = sources.largest(1)

    assert len(sources) <= 11
    assert [(source.name, source.pictures) for source in shown] == [("large", 1000), ("all others", 1000)]
    assert sum(source.synthetic_kept for source in shown) == 1000


def test_what_others_have_counted_is_added_and_few_are_held() -> None:
    both = counted("aab")
    both.add(counted("bccc"))
    assert both.largest() == counted("aabbccc").largest()
    few = counted("aaaa", held=2)
    for name in "bcdefg":
        few.add(counted(f"a{name}"))
    assert len(few) <= 3
    assert [(source.name, source.pictures) for source in few.largest(1)] == [("a", 10), ("all others", 6)]


def test_figures_have_names_that_mlflow_takes() -> None:
    assert counted("a").figures() == {}
    found = counted(["a|b.example", "c"]).figures()  # type: ignore[arg-type]
    assert found["capfilt.web_kept.a_b.example"] == 1.0
    assert found["capfilt.images_dropped.c"] == 0.0


def test_figures_of_long_names_are_told_apart_and_not_too_long_for_mlflow() -> None:
    sources = Sources()
    for ending in ("one", "other"):
        sources.count(decision(f"{'J. Doe, ' * 60}{ending}", [""], ["no_match"]))
    names = sources.figures()
    assert len(names) == 6 and max(map(len, names)) <= 120

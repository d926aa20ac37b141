"""A few of many decisions, whatever their order."""

from blip.report.choice import Choice, lot
from blip.report.decision import Decision
from blip.report.pool import Known

DECISIONS = [Decision(f"web-{number}", (), "dropped", "no_match", Known()) for number in range(200)]


def chosen(decisions: list[Decision], seed: int = 7) -> list[Decision]:
    choice = Choice(5)
    for decision in decisions:
        choice.offer(lot(seed, decision.key), decision)
    return choice.decisions


def test_those_with_the_smallest_lots_are_chosen_in_their_order() -> None:
    expected = sorted(DECISIONS, key=lambda decision: lot(7, decision.key))[:5]
    assert chosen(DECISIONS) == chosen(DECISIONS[::-1]) == expected


def test_the_best_of_two_choices_are_those_of_one_of_all() -> None:
    first, second = Choice(5), Choice(5)
    for place, decision in enumerate(DECISIONS):
        (first if place < 120 else second).offer(lot(7, decision.key), decision)
    first.add(second)
    assert first.decisions == chosen(DECISIONS)


def test_another_seed_chooses_others() -> None:
    assert chosen(DECISIONS, seed=8) != chosen(DECISIONS)


def test_fewer_than_asked_for_are_all_chosen() -> None:
    assert {decision.key for decision in chosen(DECISIONS[:3])} == {"web-0", "web-1", "web-2"}

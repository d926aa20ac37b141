"""Two halves of a dataset by key: every sample is in one of them."""

import pickle

from blip.data.halves import but_half, half_of, left_out

KEYS = [f"web-{number:04d}" for number in range(2000)]


def test_every_key_is_in_one_half_and_each_has_about_as_many() -> None:
    taken = [{key for key in KEYS if key not in but_half(frozenset(), half)} for half in (0, 1)]
    assert taken[0] | taken[1] == set(KEYS)
    assert not taken[0] & taken[1]
    assert 900 < len(taken[0]) < 1100


def test_what_is_excluded_stays_excluded_in_a_worker_too() -> None:
    mine = next(key for key in KEYS if half_of(key) == 1)
    left_out = pickle.loads(pickle.dumps(but_half(frozenset([mine]), 1)))
    assert mine in left_out
    assert [key in left_out for key in KEYS[:50]] == [key == mine or half_of(key) == 0 for key in KEYS[:50]]
    assert but_half(frozenset(), 0), "it leaves something out though it lists nothing"


def test_a_loader_tells_halves_apart() -> None:
    assert [left_out(but_half(frozenset(), half)) for half in (0, 1)] == [1, 0]
    assert left_out(frozenset(KEYS)) is None

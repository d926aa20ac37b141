from collections import Counter

from blip.data.wordpiece import learn_pieces

WORDS = Counter({"low": 5, "lower": 2, "newest": 6, "widest": 3, "aaaa": 2})


def test_the_most_frequent_pairs_are_merged_first() -> None:
    merged = [piece for piece in learn_pieces(WORDS, 100, "") if len(piece.removeprefix("##")) > 1]
    assert merged[:4] == ["##es", "##est", "##ow", "low"]


def test_equal_counts_are_merged_in_the_order_of_their_names() -> None:
    pieces = learn_pieces({"xy": 3, "ab": 3, "mn": 3}, 100, "")
    assert pieces[-3:] == ["ab", "mn", "xy"]


def test_the_order_of_the_words_changes_nothing() -> None:
    assert learn_pieces(WORDS, 40, "abc") == learn_pieces(Counter(dict(sorted(WORDS.items()))), 40, "abc")


def test_frequent_words_become_one_piece_and_rare_pairs_stay_apart() -> None:
    pieces = learn_pieces({"apple": 9, "kiwi": 1}, 100, "kiw")
    assert "apple" in pieces
    assert "ki" not in pieces


def test_a_script_of_thousands_of_characters_has_all_that_there_is_room_for() -> None:
    script = {chr(0x4E00 + number): 5000 - number for number in range(3000)}
    assert set(script) <= set(learn_pieces(script, 4000, "ab"))
    assert learn_pieces(script, 2004, "ab") == ["a", "b", "##a", "##b", *list(script)[:2000]]


def test_beyond_a_thousand_characters_the_more_frequent_of_characters_and_pairs_come_first() -> None:
    script = {chr(0x4E00 + number): 5000 - number for number in range(1200)}
    pieces = learn_pieces(script | {"ab": 3900}, 1150, "ab")
    assert pieces.index("ab") == pieces.index(chr(0x4E00 + 1100)) + 1


def test_the_alphabet_is_there_whatever_the_words() -> None:
    assert learn_pieces({}, 100, "ab") == ["a", "b", "##a", "##b"]
    assert len(learn_pieces(WORDS, 12, "ab")) == 12

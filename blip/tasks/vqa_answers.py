"""The public VQA evaluation: answers brought to one form, and the accuracy of ten annotators.

    normalise("The two dogs.")                                          # "2 dogs"
    accuracy("blue", {"blue": 0.3, "navy": 0.7})                        # 0.9
    accuracy("sofa", {"sofa": 0.5, "couch": 0.5}, annotators=2)         # 1.0

Follows the rules of the VQA evaluation (Antol et al., ICCV 2015; https://visualqa.org/evaluation.html), with
its quirks, so that figures compare with published ones. Fewer annotators than its ten cannot agree as it asks, so
an answer of theirs is measured by the best one that they gave.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

from blip.data.sample import ANNOTATORS

NEEDED = 3  # annotators that must agree for a full score
DIGITS = 9  # of a quotient of two scores, so that a half is a half

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"(?<=\d),+(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_WITH_APOSTROPHE = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
    they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
    when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
# Each form with one apostrophe left out. Forms that would then be another word (we're, she'll) are not here.
_CONTRACTIONS: dict[str, str] = {
    word[:place] + word[place + 1 :]: word
    for word in _WITH_APOSTROPHE.split()
    for place, letter in enumerate(word)
    if letter == "'"
}


@lru_cache(1 << 16)  # the same answers come again and again
def normalise(answer: str) -> str:
    """Lower-case, punctuation, number words to digits, articles, contractions."""
    words = _strip_marks(" ".join(answer.split())).lower().split()
    numbers = (_NUMBERS.get(word, word) for word in words)
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbers if word not in _ARTICLES)


def accuracy(prediction: str, answers: Mapping[str, float], annotators: int = ANNOTATORS) -> float:
    """How right a prediction is, 0 to 1.

    With one known answer: 1 if it is that one. With several: each annotator is left out in turn, and the
    prediction scores min(matches among the others / 3, 1); the mean over annotators. With fewer than ten of them
    that is divided by the score of the answer that most gave, which so is 1.

    Args:
        answers: each answer with the share of the annotators who gave it.
        annotators: how many there were.
    """
    shares: dict[str, float] = defaultdict(float)
    for answer, share in answers.items():
        shares[normalise(answer)] += share
    given = normalise(prediction)
    if len(shares) == 1:
        return float(given in shares)
    whole = sum(shares.values())
    found = _left_out_in_turn(shares.get(given, 0.0) / whole, annotators)
    if annotators >= ANNOTATORS:
        return found
    return round(found / _left_out_in_turn(max(shares.values()) / whole, annotators), DIGITS)


def _left_out_in_turn(share: float, annotators: int) -> float:
    """The mean score of an answer that this share of the annotators gave, over leaving out each of them."""
    matches = share * annotators
    left_out_match = min(max(matches - 1, 0.0) / NEEDED, 1.0)
    left_out_other = min(matches / NEEDED, 1.0)
    return share * left_out_match + (1 - share) * left_out_other


def _strip_marks(text: str) -> str:
    """A mark beside a space goes, one inside a word becomes a space; a comma between digits drops all."""
    joins = _DIGIT_COMMA.search(text) is not None
    stripped = text
    for mark in _MARKS:
        drop = joins or f"{mark} " in text or f" {mark}" in text
        stripped = stripped.replace(mark, "" if drop else " ")
    return _PERIOD.sub("", stripped)

"""Synthetic captions that no model needs to judge: empty ones, ones that repeat themselves or copy the prompt.

rejected("a red a red a red", prompt="a picture of")      # "repeats"
"""

from collections import Counter

EMPTY, REPEATS, PROMPT = "empty", "repeats", "prompt"
SAME_WORD, SAME_PHRASE = 3, 2  # so many in a row are too many


def rejected(text: str, prompt: str = "", repeats: bool = True) -> str:
    """The reason to reject a cleaned caption, or the empty string; `repeats`: whether repeating itself is one."""
    words = text.split()
    if not words:
        return EMPTY
    start = prompt.lower().split()
    if start and words[: len(start)] == start:
        return PROMPT
    return REPEATS if repeats and _repeats(words) else ""


def _repeats(words: list[str]) -> bool:
    """A word three times in a row, a phrase of two or three twice in a row, or one phrase of three twice at all."""
    if _in_a_row(words, 1, SAME_WORD) or any(_in_a_row(words, n, SAME_PHRASE) for n in (2, 3)):
        return True
    phrases = Counter(zip(words, words[1:], words[2:], strict=False))
    return any(count > 1 for count in phrases.values())


def _in_a_row(words: list[str], length: int, times: int) -> bool:
    span = length * times
    starts = range(len(words) - span + 1)
    return any(words[at : at + length] * times == words[at : at + span] for at in starts)

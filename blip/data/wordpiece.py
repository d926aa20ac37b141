"""A WordPiece vocabulary learnt from word counts by merging the most frequent pairs, the same on every run.

pieces = learn_pieces(Counter({"apple": 12, "apples": 3}), size=3000, alphabet="abc...xyz")

The trainer of the `tokenizers` package numbers its alphabet in the order of a randomly seeded hash table and
breaks ties by these numbers, so it gives another vocabulary, and then another model, each time.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

LEAST = 2  # how often a pair must occur to be merged, and a character to be kept
INSIDE = "##"  # begins the pieces that continue a word
COMMON = 1000  # characters beside the alphabet that come before any merged pair
Pair = tuple[str, str]


def learn_pieces(words: Mapping[str, int], size: int, alphabet: str) -> list[str]:
    """Pieces of words: the alphabet and the most frequent characters, then what occurs most often.

    That is a merged pair, or one of the characters that a script of thousands has beyond the COMMON ones.

    Args:
        words: how often each word occurs.
        size: the most pieces to return.
        alphabet: characters to have in any case, both at a word's begin and inside.
    """
    characters = _characters(words)
    always = [*alphabet, *(INSIDE + character for character in alphabet)]
    first = dict.fromkeys([*always, *(piece for piece, _ in characters[:COMMON])])
    pieces = dict.fromkeys(list(first)[:size])
    for piece, _ in heapq.merge(characters[COMMON:], _Merger(words).merges(), key=lambda found: -found[1]):
        if len(pieces) >= size:
            break
        pieces[piece] = None
    return list(pieces)


def _split(word: str) -> list[str]:
    return [word[0], *(INSIDE + character for character in word[1:])]


def _characters(words: Mapping[str, int]) -> list[tuple[str, int]]:
    """The characters, as a word's begin and inside, that occur LEAST times or more often, the most frequent first."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for piece in _split(word):
            counts[piece] += count
    kept = (found for found in counts.items() if found[1] >= LEAST)
    return sorted(kept, key=lambda found: (-found[1], found[0]))


class _Merger:
    """Words as pieces, and the pairs of neighbours in them by count."""

    def __init__(self, words: Mapping[str, int]) -> None:
        self._words = [(_split(word), count) for word, count in sorted(words.items()) if word]
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for index in range(len(self._words)):
            self._count(index, 1)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def merges(self) -> Iterator[tuple[str, int]]:
        """Join the most frequent pair (of equals the first by name) everywhere, again and again; with its count."""
        while self._heap:
            count, pair = heapq.heappop(self._heap)
            if -count != self._counts[pair]:
                continue  # has changed since, and is in the heap again
            if -count < LEAST:
                return
            yield self._merge(pair), -count

    def _merge(self, pair: Pair) -> str:
        piece = pair[0] + pair[1].removeprefix(INSIDE)
        touched: set[Pair] = set()
        for index in sorted(self._places.pop(pair)):
            touched |= self._count(index, -1)
            self._words[index] = (_joined(self._words[index][0], pair, piece), self._words[index][1])
            touched |= self._count(index, 1)
        for changed in touched:
            if self._counts[changed] > 0:
                heapq.heappush(self._heap, (-self._counts[changed], changed))
        return piece

    def _count(self, index: int, sign: int) -> set[Pair]:
        """Add a word's pairs to the counts, or take them off; returns the pairs."""
        pieces, count = self._words[index]
        pairs = list(pairwise(pieces))
        for pair in pairs:
            self._counts[pair] += sign * count
            if sign > 0:
                self._places[pair].add(index)
        return set(pairs)


def _joined(pieces: Iterable[str], pair: Pair, piece: str) -> list[str]:
    joined: list[str] = []
    for current in pieces:
        if joined and (joined[-1], current) == pair:
            joined[-1] = piece
        else:
            joined.append(current)
    return joined

"""Natural captions from a concept's label, tags and kind: what a careful person would have written."""

import re

import numpy as np
from concepts import Concept

LONGEST = 12

# What a picture of each kind shows, by emojibase subgroup (the longest prefix that fits).
_KINDS: dict[str, str] = {
    "face": "a face",
    "face-costume": "a creature from stories",
    "cat-face": "an animal",
    "monkey-face": "an animal",
    "heart": "a heart",
    "hand": "a hand",
    "body": "a part of the body",
    "person-sport": "a sport",
    "person": "a person",
    "animal": "an animal",
    "animal-bird": "a bird",
    "animal-marine": "a sea animal",
    "animal-bug": "a small animal",
    "plant": "a plant",
    "plant-flower": "a flower",
    "food": "something to eat",
    "food-fruit": "a fruit",
    "food-vegetable": "a vegetable",
    "food-sweet": "something sweet",
    "drink": "something to drink",
    "dishware": "something for the table",
    "place": "a place",
    "place-building": "a building",
    "place-other": "a sight",
    "transport": "a way to travel",
    "time": "something that tells the time",
    "sky": "something in the sky",
    "event": "something for a celebration",
    "award": "a prize",
    "sport": "a sport",
    "game": "something to play with",
    "clothing": "something to wear",
    "musical-instrument": "an instrument",
    "computer": "an electronic device",
    "phone": "an electronic device",
    "writing": "something to write with",
    "office": "something for the office",
    "tool": "a tool",
    "money": "money",
    "household": "something in a house",
}

# Labels that take no article: names, stuff, activities and words that describe.
_BARE_TEXT = """
    bread, sushi, spaghetti, fire, bowling, tennis, cooking, sunrise, curry rice, cooked rice,
    shaved ice, fried shrimp, horse racing, mount fuji, Santa Claus, custard, locked, unlocked,
    locked with key, high voltage, money with wings, Statue of Liberty, chart increasing, chart decreasing,
    meat on bone, candy, see-no-evil monkey, hear-no-evil monkey, speak-no-evil monkey
    """
_BARE = frozenset(label.strip() for label in _BARE_TEXT.split(","))


_OPENINGS = (
    "a picture of {thing}",
    "a drawing of {thing}",
    "an illustration of {thing}",
    "{thing} on a white background",
    "this is {thing}",
    "here you see {thing}",
    "a small picture showing {thing}",
    "{thing}, simple and clear",
)
_WITH_KIND = (
    "{thing}, {kind}",
    "{kind}: {label}",
    "{kind}, namely {thing}",
    "{kind} that is called {label}",
)
_WITH_TAGS = (
    "{label}, {tag} and {other}",
    "{thing}, for {tag} or {other}",
    "{tag} and {other}: {thing}",
    "{label} ({tag})",
    "{thing}, think of {tag}",
)


def with_article(label: str) -> str:
    """ "apple" -> "an apple"; plurals, stuff and names stay as they are."""
    head = re.split(r" (?:with|showing|without) ", label)[0]
    plural = re.search(r"(?:[^sui]|ski)s$", head) and not label.startswith("person ")
    if label in _BARE or plural:
        return label
    vowel = re.match(r"(?i)[aio]|e(?!w)|u(?!n[ai]|s)|hour", label)
    return f"{'an' if vowel else 'a'} {label}"


def sentences(concept: Concept, rng: np.random.Generator) -> list[str]:
    """Three or four different sentences of at most ``LONGEST`` words."""
    words = {"label": concept.label, "thing": with_article(concept.label), "kind": _kind(concept.subgroup)}
    tags = _useful_tags(concept)
    openings = [str(text) for text in rng.permutation(_OPENINGS)]
    templates = openings[:2]
    if words["kind"] and words["kind"].split()[-1] not in concept.label:
        templates.append(str(rng.choice(_WITH_KIND)))
    if len(tags) >= 2:
        words["tag"], words["other"] = (str(tag) for tag in rng.permutation(tags)[:2])
        templates.append(str(rng.choice(_WITH_TAGS)))
    filled = [template.format(**words) for template in [*templates, openings[2]]]
    short = [text for text in dict.fromkeys(filled) if len(text.split()) <= LONGEST]
    return short[: len(templates)] if len(templates) >= 3 else short[:3]


def _useful_tags(concept: Concept) -> list[str]:
    """Single-word tags that the label does not say already."""
    said = set(re.findall(r"\w+", concept.label.lower()))
    return [tag for tag in concept.tags if re.fullmatch(r"[a-z]{3,}", tag) and tag not in said]


def _kind(subgroup: str) -> str:
    fitting = [prefix for prefix in _KINDS if subgroup == prefix or subgroup.startswith(f"{prefix}-")]
    return _KINDS[max(fitting, key=len)] if fitting else ""

"""Which concepts the sample holds, and under which name each artist drew them.

A concept is an emoji that all eight artists have drawn. Labels, tags and groups come from `emojibase-data`;
five of the icon sets map code points to names (``chars.json``), the other three are joined by name (the names
that follow no rule are in ``concept_tables.py``).
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from concept_tables import FXEMOJI_NAMES, KEPT_ANYWAY, SKIPPED_LABELS, SKIPPED_SUBGROUPS
from packages import IconSet, fetch_npm, version_of
from PIL import Image

HUMAN = "fluent-emoji"
WEB = ("fluent-emoji-flat", "fluent-emoji-high-contrast", "twemoji", "openmoji", "fxemoji")
VALIDATION = "emojione"
TEST = "noto"
ARTISTS = (HUMAN, *WEB, VALIDATION, TEST)

CLIP_PACKAGES = ("@lobehub/fluent-emoji-anim-1", "@lobehub/fluent-emoji-anim-2")
CLIPS = 66
CLIP_SEED = 66

_SKIPPED = frozenset(label for labels in SKIPPED_LABELS.values() for label in labels)


@dataclass(frozen=True)
class Concept:
    """One thing, drawn by everybody."""

    hexcode: str
    label: str
    tags: tuple[str, ...]
    group: str
    subgroup: str
    icons: dict[str, str]
    """Artist to icon name."""


def choose_concepts(sets: dict[str, IconSet]) -> list[Concept]:
    """All concepts that pass the rule, in Unicode's order."""
    emojis, groups = _emojibase()
    found = [_concept(entry, groups, sets) for entry in emojis if _is_wanted(entry, groups)]
    concepts = [concept for concept in found if concept is not None]
    _check_unique(concepts)
    return concepts


def choose_clips(concepts: list[Concept]) -> set[str]:
    """Hexcodes of the concepts that keep their Fluent picture for the animated clips.

    All concepts with a moving clip; if more than ``CLIPS``, that many, drawn in turn from each group.
    """
    candidates = [concept for concept in concepts if clip_path(concept.hexcode) is not None]
    by_group: dict[str, list[str]] = {}
    for index in np.random.default_rng(CLIP_SEED).permutation(len(candidates)):
        by_group.setdefault(candidates[index].group, []).append(candidates[index].hexcode)
    chosen: list[str] = []
    while len(chosen) < min(CLIPS, len(candidates)):
        for group in sorted(by_group):
            chosen += [by_group[group].pop()] if by_group[group] else []
    return set(chosen[:CLIPS])


def clip_path(hexcode: str) -> Path | None:
    """The animated picture of a concept (WebP of more than one frame), or None."""
    for package in CLIP_PACKAGES:
        path = fetch_npm(package, version_of(package)) / "assets" / f"{hexcode.lower()}.webp"
        if path.exists() and _moves(path):
            return path
    return None


def normalised(label: str) -> str:
    """The form in which labels must differ: BLIP's caption cleaning."""
    return re.sub(r"\s+", " ", re.sub(r"[.!\"()*#:;~]", " ", label.lower())).strip()


def _emojibase() -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    root = fetch_npm("emojibase-data", version_of("emojibase-data"))
    emojis = json.loads((root / "en/data.json").read_text(encoding="utf-8"))
    groups = json.loads((root / "meta/groups.json").read_text(encoding="utf-8"))
    return emojis, groups


def _is_wanted(entry: dict[str, Any], groups: dict[str, dict[str, str]]) -> bool:
    """The rule: no sequences, no kinds or labels from the tables of what is left out."""
    if "group" not in entry or "-200D" in entry["hexcode"] or entry["label"] in _SKIPPED:
        return False
    return (
        groups["subgroups"][str(entry["subgroup"])] not in SKIPPED_SUBGROUPS or entry["label"] in KEPT_ANYWAY
    )


def _concept(entry: dict[str, Any], groups: dict[str, Any], sets: dict[str, IconSet]) -> Concept | None:
    """The concept with its eight icon names, or None if an artist lacks it."""
    icons = _icons_by_code(entry["hexcode"], sets)
    if icons.get("fluent-emoji-flat") in sets["fluent-emoji"]:
        icons["fluent-emoji"] = icons["fluent-emoji-flat"]
    names = [_slug(entry["label"]), _slug(_unicode_name(entry["hexcode"])), *icons.values()]
    _add_first(icons, "emojione", [*names, *_older_names(icons, sets)], sets)
    short = [FXEMOJI_NAMES[entry["label"]]] if entry["label"] in FXEMOJI_NAMES else []
    _add_first(icons, "fxemoji", short or [name.replace("-", "") for name in names], sets)
    if set(icons) != set(ARTISTS):
        return None
    group = groups["groups"][str(entry["group"])]
    subgroup = groups["subgroups"][str(entry["subgroup"])]
    label = entry["label"].replace("’", "'")
    return Concept(entry["hexcode"], label, tuple(entry.get("tags", ())), group, subgroup, icons)


def _icons_by_code(hexcode: str, sets: dict[str, IconSet]) -> dict[str, str]:
    """Artist to icon name where the set maps code points."""
    codes = (hexcode.lower(), hexcode.lower().replace("-fe0f", ""))
    named = {
        artist: [icons.chars[code] for code in codes if code in icons.chars] for artist, icons in sets.items()
    }
    return {artist: names[0] for artist, names in named.items() if names}


def _older_names(icons: dict[str, str], sets: dict[str, IconSet]) -> list[str]:
    """Other names of the same picture in Noto and Twemoji, which EmojiOne may still use."""
    return [
        other
        for artist in ("noto", "twemoji")
        if artist in icons
        for other in sets[artist].same_as(icons[artist])
    ]


def _add_first(icons: dict[str, str], artist: str, names: Iterable[str], sets: dict[str, IconSet]) -> None:
    """Take the first of ``names`` that the artist has."""
    for name in names:
        if name in sets[artist]:
            icons[artist] = name
            return


def _slug(text: str) -> str:
    """ "Woman's hat" -> "womans-hat" """
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "").replace("'", ""))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")


def _unicode_name(hexcode: str) -> str:
    return unicodedata.name(chr(int(hexcode.partition("-")[0], 16)), "")


def _moves(path: Path) -> bool:
    with Image.open(path) as picture:
        return getattr(picture, "n_frames", 1) > 1


def _check_unique(concepts: list[Concept]) -> None:
    seen: dict[str, str] = {}
    for concept in concepts:
        other = seen.setdefault(normalised(concept.label), concept.hexcode)
        if other != concept.hexcode:
            raise ValueError(f"concepts {other} and {concept.hexcode} have the same label {concept.label!r}")

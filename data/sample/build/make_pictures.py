"""Build the pictures of the sample from their packages.

    python data/sample/build/make_pictures.py

Writes ``concepts.csv``, ``near_duplicates.csv`` and, for each of human, web, validation and test,
``images.tar``, ``captions.csv`` and ``truth.csv``. Every choice follows from a fixed seed; the same packages
give the same bytes.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from concepts import ARTISTS, HUMAN, TEST, VALIDATION, WEB, Concept, choose_clips, choose_concepts
from deterministic_tar import write_tar
from noise import WebTexts
from packages import SAMPLE, load_icons
from perceptual_hash import distances, perceptual_hash
from PIL import Image
from rasterise import rasterise
from sentences import sentences

SIZE = 96
QUALITY = 85
SEED = "blip sample 3"
WRONG_SHARE = 0.5
NEAR = 6
"""Largest Hamming distance of a near duplicate.

Among all pairs of a held-out and a training picture the smallest distance is 4, and no picture is a copy; up
to 6, all pairs but one show the same thing drawn alike. From 8 on unrelated things come in between (a
microphone and a kitchen knife), at 10 they are the majority, so the hash says nothing there."""
BLANK = 0.01
"""A drawing that leaves less than this share of the square other than white counts as blank."""

ROLES = {"human": (HUMAN,), "web": WEB, "validation": (VALIDATION,), "test": (TEST,)}
CAPTION_COLUMNS = ("image", "caption")


@dataclass(frozen=True)
class Picture:
    """One artist's drawing of one concept."""

    concept: Concept
    artist: str
    pixels: np.ndarray
    key: str = ""


def main() -> None:
    """Render, drop, caption, write."""
    sets = {artist: load_icons(artist) for artist in ARTISTS}
    concepts = choose_concepts(sets)
    clips = choose_clips(concepts)
    roles = {
        role: [
            Picture(concept, artist, rasterise(sets[artist].svg(concept.icons[artist]), SIZE))
            for artist in artists
            for concept in concepts
            if not (role == "human" and concept.hexcode in clips)
        ]
        for role, artists in ROLES.items()
    }
    roles = {
        role: [picture for picture in pictures if not is_blank(picture)] for role, pictures in roles.items()
    }
    roles = drop_near_duplicates(roles, SAMPLE / "near_duplicates.csv")
    roles = {role: with_keys(role, pictures) for role, pictures in roles.items()}
    write_concepts(concepts, clips)
    for role, pictures in roles.items():
        size = write_tar(SAMPLE / role / "images.tar", {f"{p.key}.webp": webp(p.pixels) for p in pictures})
        print(f"{role}: {len(pictures)} pictures, {size:,} bytes")
    write_human(roles["human"])
    write_web(roles["web"], WebTexts(concepts))
    for role in ("validation", "test"):
        write_labels(role, roles[role])


def rng_for(*names: str) -> np.random.Generator:
    """A generator of its own for each thing, so that a change in one place leaves the others as they are."""
    digest = hashlib.sha256("/".join((SEED, *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def is_blank(picture: Picture) -> bool:
    """Whether nearly nothing was drawn."""
    return bool((picture.pixels < 245).any(axis=-1).mean() < BLANK)


def drop_near_duplicates(roles: dict[str, list[Picture]], report: Path) -> dict[str, list[Picture]]:
    """Take training pictures out that look like a held-out one; lists the pairs in ``report``."""
    training, held_out = [*roles["human"], *roles["web"]], [*roles["validation"], *roles["test"]]
    hashes = [[perceptual_hash(picture.pixels) for picture in side] for side in (held_out, training)]
    apart = distances(*hashes)
    rows = [
        (
            held_out[i].artist,
            held_out[i].concept.label,
            training[j].artist,
            training[j].concept.label,
            apart[i, j],
        )
        for i, j in np.argwhere(apart <= NEAR)
    ]
    columns = ("held_out_artist", "held_out_label", "dropped_artist", "dropped_label", "distance")
    write_csv(report, columns, sorted(rows))
    dropped = {id(training[j]) for j in np.flatnonzero((apart <= NEAR).any(axis=0))}
    print(f"near duplicates: {len(rows)} pairs, {len(dropped)} training pictures dropped")
    return {
        role: [picture for picture in pictures if id(picture) not in dropped]
        for role, pictures in roles.items()
    }


def with_keys(role: str, pictures: list[Picture]) -> list[Picture]:
    """Number the pictures in an order that tells nothing."""
    order = rng_for("keys", role).permutation(len(pictures))
    return [replace(pictures[source], key=f"{role}-{number:04d}") for number, source in enumerate(order)]


def webp(pixels: np.ndarray) -> bytes:
    """One picture as lossy WebP."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def write_concepts(concepts: list[Concept], clips: set[str]) -> None:
    """``concepts.csv``: what the sample is about."""
    columns = ("hexcode", "label", "tags", "group", "has_clip")
    rows = ((c.hexcode, c.label, ";".join(c.tags), c.group, int(c.hexcode in clips)) for c in concepts)
    write_csv(SAMPLE / "concepts.csv", columns, rows)


def write_human(pictures: list[Picture]) -> None:
    """Clean captions: the label first, then sentences."""
    captions = [
        (picture.key, caption)
        for picture in pictures
        for caption in (
            picture.concept.label,
            *sentences(picture.concept, rng_for("human", picture.concept.hexcode)),
        )
    ]
    write_csv(SAMPLE / "human/captions.csv", CAPTION_COLUMNS, captions)
    write_truth("human", pictures)


def write_web(pictures: list[Picture], texts: WebTexts) -> None:
    """One text each, about half of them wrong; the truth goes into a file of its own."""
    captions, truth = [], []
    for picture in pictures:
        concept = picture.concept
        text = texts.draw(concept, WRONG_SHARE, rng_for("web", picture.artist, concept.hexcode))
        captions.append((picture.key, text.caption))
        matched = int(not text.noise)
        truth.append((picture.key, concept.label, matched, text.noise, picture.artist, concept.hexcode))
    write_csv(SAMPLE / "web/captions.csv", CAPTION_COLUMNS, captions)
    columns = ("image", "caption_true", "matched", "noise", "artist", "concept")
    write_csv(SAMPLE / "web/truth.csv", columns, truth)


def write_labels(role: str, pictures: list[Picture]) -> None:
    """The label alone."""
    write_csv(SAMPLE / role / "captions.csv", CAPTION_COLUMNS, ((p.key, p.concept.label) for p in pictures))
    write_truth(role, pictures)


def write_truth(role: str, pictures: list[Picture]) -> None:
    """``truth.csv`` of a role whose captions are right."""
    columns = ("image", "concept", "label", "group")
    rows = ((p.key, p.concept.hexcode, p.concept.label, p.concept.group) for p in pictures)
    write_csv(SAMPLE / role / "truth.csv", columns, rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table through a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    partial.replace(path)


if __name__ == "__main__":
    main()

"""Commands for models: caption, match, answer, search, classify, explain."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from blip.commands.opening import (
    Device,
    Model,
    leave_out,
    note_cut,
    note_prompt,
    note_purpose,
    open_model,
    read_pictures,
    read_usable,
)
from blip.commands.output import JsonFlag, columns, show
from blip.errors import BadArguments, BlipError

app = typer.Typer()
PANEL = "Models"
BATCH = 64
NOTHING = "(nothing)"  # where a model writes no word
CAPTIONING, VQA, RETRIEVAL = (f"models:/blip-{task}@champion" for task in ("captioning", "vqa", "retrieval"))

Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")]


@app.command(rich_help_panel=PANEL)
def caption(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Pictures.")],
    model: Model = CAPTIONING,
    decoding: Annotated[Literal["beam", "greedy", "nucleus"], typer.Option(help="How to write.")] = "beam",
    prompt: Annotated[
        str | None,
        typer.Option(help="Words that a caption goes on from; the model's own when none is given."),
    ] = None,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Write a caption for each picture; what is no picture is left out, and said on standard error.

    Example: [bold]blip caption cat.jpg dog.png --model models/captioning[/bold]
    """
    from blip.tracking.registry import resolve

    path = resolve(model)
    opened = open_model(str(path), device)
    note_purpose(opened, answers=False)
    if prompt is None:
        note_prompt(path)
    pairs: list[tuple[str, str]] = []
    for start in range(0, len(images), BATCH):
        usable, pictures = read_usable(images[start : start + BATCH])
        pairs += zip(map(str, usable), opened.caption(pictures, decoding, prompt=prompt), strict=True)
    if not pairs:
        raise BlipError(f"none of the {len(images)} files can be used as a picture")
    rows = [(image, text or NOTHING) for image, text in pairs]
    show([{"image": image, "caption": text} for image, text in pairs], as_json, columns(rows))


@app.command(rich_help_panel=PANEL)
def match(
    image: Picture,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Texts that may describe it.")],
    model: Model = RETRIEVAL,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Whether texts match a picture: probability by the matching head, cosine of the embeddings.

    Example: [bold]blip match cat.jpg "a sleeping cat" "a dog"[/bold]
    """
    from blip.serving.answers import matches

    opened = open_model(model, device)
    note_purpose(opened, answers=False)
    note_cut(opened, texts)
    found = matches(opened, read_pictures([image])[0], texts)
    rows = [
        ("probability", "cosine", ""),
        *((f"{one.probability:.3f}", f"{one.cosine:.3f}", one.text) for one in found),
    ]
    show([one._asdict() for one in found], as_json, columns(rows))


@app.command(rich_help_panel=PANEL)
def answer(
    image: Picture,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question about it.")],
    *,
    candidates: Annotated[str, typer.Option(help="Comma-separated answers to choose from.")] = "",
    model: Model = VQA,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Answer a question about a picture, in the model's own words or by one of the candidates.

    Example: [bold]blip answer shapes.png "what color is the circle?" --candidates red,blue,green[/bold]
    """
    choices = words(candidates) or None
    if candidates and not choices:
        raise BadArguments(f"--candidates {candidates!r} names no answer; give some, as red,blue,green")
    from blip.serving.answers import require_words

    require_words("question", [question])
    require_words("candidate", choices or [])
    opened = open_model(model, device)
    note_purpose(opened, answers=True)
    note_cut(opened, [question], question=True)
    text = opened.answer(read_pictures([image]), [question], choices)[0]
    show({"image": str(image), "question": question, "answer": text}, as_json, [text or NOTHING])


@app.command(rich_help_panel=PANEL)
def search(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A folder with pictures, in folders below it too; or a pairs dataset."
        ),
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    *,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 5,
    model: Model = RETRIEVAL,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Find the pictures of a folder that fit a text best.

    Example: [bold]blip search photos/ "a red bicycle" --top 3[/bold]
    """
    from blip.serving.answers import require_words
    from blip.serving.collection import Collection

    require_words("text", [text])
    opened = open_model(model, device)
    note_cut(opened, [text])
    found = Collection.of(folder, opened, leave_out).nearest(opened.embed_texts([text])[0], top)
    rows = [(f"{cosine:.3f}", place.name) for cosine, place in found]
    show([{"image": place.name, "cosine": cosine} for cosine, place in found], as_json, columns(rows))


@app.command(rich_help_panel=PANEL)
def classify(
    image: Picture,
    labels: Annotated[str, typer.Option(help="Comma-separated names to choose from.")],
    *,
    template: Annotated[str, typer.Option(help="The text made of a name; {} is where it goes.")] = "{}",
    model: Model = RETRIEVAL,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Say which of some names fits a picture best, without training on them.

    Example: [bold]blip classify pet.jpg --labels cat,dog,parrot --template "a picture of a {}"[/bold]
    """
    names = words(labels)
    if len(names) < 2 or "{}" not in template:
        raise BadArguments("classify needs two or more --labels, and a --template with {} in it")
    from blip.serving.answers import shares

    ranked = shares(open_model(model, device), read_pictures([image])[0], names, template)
    rows = [(f"{share:.3f}", name) for name, share in ranked]
    show([{"label": name, "probability": share} for name, share in ranked], as_json, columns(rows))


@app.command(rich_help_panel=PANEL)
def explain(
    image: Picture,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A text that may describe it.")],
    out: Annotated[Path, typer.Option(help="The picture to write, a PNG.")],
    *,
    model: Model = RETRIEVAL,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Show where in a picture the model sees each word: one heat map a word, in one PNG.

    Example: [bold]blip explain cat.jpg "a cat on a chair" --out seen.png[/bold]
    """
    from blip.serving.heatmaps import draw

    if out.suffix.lower() != ".png":
        raise BadArguments(f"--out {out}: a PNG is written; give a name that ends in .png")
    picture = read_pictures([image])[0]
    explanation = open_model(model, device).explain(picture, text)
    draw(picture, explanation, out)
    result = {name: value for name, value in vars(explanation).items() if name != "maps"}
    lines = [f"{out}: {len(explanation.words)} words, match {explanation.probability:.3f}"]
    for words, reason in (
        (explanation.unknown, "unknown to the model"),
        (explanation.cut, "behind what it reads"),
    ):
        lines += [f"left out: {', '.join(words)} ({reason})"] if words else []
    show({"out": str(out), **result}, as_json, lines)


def words(text: str) -> list[str]:
    """Comma-separated words without blanks around them."""
    return [word.strip() for word in text.split(",") if word.strip()]

"""Kind `imagefolder`: a folder a class, as ImageNet and torchvision have them.

    flowers/train/golden_poppy/0001.jpg     caption "golden poppy", truth label "golden poppy"

`split` names a folder above the classes. Where ImageNet's LOC_synset_mapping.txt (`n01440764 tench, Tinca tinca`)
lies in the source, the classes have its first names.
"""

from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import IMAGE_EXTENSIONS, Caption, Sample
from blip.errors import BlipError
from blip.ingest.sources.files import content, files_below
from blip.ingest.sources.folder import Beside, spaced, unread
from blip.ingest.sources.links import closed, gone, leads_nowhere, led_out, may_be_folder
from blip.ingest.sources.refused import Refused, extension_in, key_of, renamed

SYNSETS = "LOC_synset_mapping.txt"
NO_CLASS = "no_class"


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples class by class; pictures that lie in no class are refused.

    Raises:
        BlipError: there is no such folder, or it has the folder of a split that is not named.
    """
    if not path.is_dir():
        raise BlipError(f"source {path}: no such folder; check ingest.datasets in params.yaml")
    top = _top(path, source.split)
    names, root, beside = _synsets(path), path.resolve(), Beside()
    for file in files_below(top):
        name, extension = file.relative_to(top).as_posix(), extension_in(file.name)
        if extension not in IMAGE_EXTENSIONS:
            if may_be_folder(file):
                yield closed(file, name, top)
            elif beside.is_lost(file):
                yield unread(file, key_of(name))
            continue
        folder, inside, _ = name.partition("/")
        if leads_nowhere(file):
            yield gone(file, name)
        elif not file.resolve().is_relative_to(root):
            yield led_out(file, name, path)
        elif not inside:
            yield Refused(key_of(name), NO_CLASS, f"{name} lies in no class's folder")
        elif isinstance(data := content(file, key_of(name)), Refused):
            yield data
        else:
            label = names.get(folder) or spaced(folder) or folder
            caption = (Caption(label, source.origin),)
            yield Sample(key_of(name), data, extension, caption, truth={"label": label}, name=renamed(name))


def _top(path: Path, split: str | None) -> Path:
    if split:
        if not (path / split).is_dir():
            raise BlipError(f"source {path}: it has no folder {split}, the split's")
        return path / split
    found = sorted(
        entry.name for entry in path.iterdir() if entry.name in ("train", "val", "validation", "test")
    )
    if found:
        raise BlipError(f"source {path}: it has {', '.join(found)}; name one as the split (--split)")
    return path


def _synsets(path: Path) -> dict[str, str]:
    file = path / SYNSETS
    if not file.is_file():
        return {}
    pairs = (line.partition(" ") for line in file.read_text(encoding="utf-8").splitlines())
    return {synset: names.split(",")[0].strip() for synset, _, names in pairs}

r"""Names of files as people write them in tables, and the files that they mean.

    plain_name("./photos\cat.jpg")                     # "photos/cat.jpg"
    Alike(Path("pool")).find("photos/cat.JPG")         # pool/Photos/Cat.jpg

A table that was made on another machine has `\` for `/`, accents as letters of their own, or capitals that its file
system did not tell apart.
"""

import re
import unicodedata
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from blip.data.passing import patiently

LARGE = 100_000  # names of a folder in which none that is nearly right is looked for
FEW = 2000  # names with the same numbers among which none is
NEAR = 100  # names for which one is looked for; nobody reads more
_NUMBERS = re.compile(r"\d+")  # 7.jpg is not nearly 8.jpg


def plain_name(name: str) -> str:
    """A name in one of the ways to write it: composed letters, `/`, no `./`; addresses stay as they are."""
    if not name or "://" in name:
        return name
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


def folded(name: str) -> str:
    """Equal for names that differ in letter case or in how letters are composed."""
    return unicodedata.normalize("NFC", name).casefold()


class Alike:
    """Looks names up whatever their case; the names of the folders that were asked for are held."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[Path, dict[str, str]] = {}
        self._asked = 0

    def find(self, name: str) -> Path | None:
        """The file that a name means, if one alone does."""
        place = self._root
        for part in PurePosixPath(name).parts:
            found = self._in(place).get(folded(part))
            if found is None:
                return None
            place = place / (found or part)  # of several that are alike, the one that is written so
        return place if place.is_file() else None

    def near(self, name: str) -> str:
        """A name in the same folder that may be meant, or ""; of the first NEAR names and no large folder."""
        path = PurePosixPath(name)
        names = self._in(self._root / path.parent)
        self._asked += 1
        if self._asked > NEAR or len(names) > LARGE:
            return ""
        alike = [other for other in names if _NUMBERS.findall(other) == _NUMBERS.findall(path.name)]
        close = get_close_matches(folded(path.name), alike, n=1, cutoff=0.8) if len(alike) <= FEW else []
        return str(path.with_name(names[close[0]])) if close and names[close[0]] else ""

    def _in(self, folder: Path) -> dict[str, str]:
        """Folded names to written ones; "" where two are alike."""
        if folder not in self._names:
            self._names[folder] = found = {}
            with suppress(OSError, ValueError):  # none is there, or its name is too long or no name at all
                for entry in patiently(lambda: sorted(folder.iterdir()), folder):
                    found[folded(entry.name)] = "" if folded(entry.name) in found else entry.name
        return self._names[folder]

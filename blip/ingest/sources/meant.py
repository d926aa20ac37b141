r"""What a name that leads to no file may mean, for a person to mend it.

hint("Tasse%20blau.jpg", Path("pool"))           # "Tasse blau.jpg is: the name is URL-encoded"
elsewhere(r"C:\Bilder\a.jpg", Path("pool"))      # "an absolute path of another machine: write a.jpg"
"""

import re
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

SEPARATORS = "|;,"  # of several names in one cell
WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\|//")  # how an absolute path begins there


def hint(name: str, folder: Path) -> str:
    """What there is in the folder that is not a file of that name; "" where nothing tells."""
    if _is(Path.is_dir, folder / name):
        return f"{name} is a folder"
    decoded = unquote(name)
    if decoded != name and _is(Path.is_file, folder / decoded):
        return f"{decoded} is: the name is URL-encoded"
    for separator in SEPARATORS:
        names = [part.strip() for part in name.split(separator)]
        if len(names) > 1 and all(part and _is(Path.is_file, folder / part) for part in names):
            return f"the cell names {len(names)} pictures: write a row for each"
    return ""


def elsewhere(name: str, folder: Path) -> str:
    """That an absolute name is one of another machine, with the name to write; "" of any other."""
    base = PureWindowsPath(name).name
    here = bool(base) and _is(Path.is_file, folder / base)
    windows = WINDOWS.match(name) is not None
    if not windows and not (here and name.startswith("/") and not _is(Path.exists, Path(name).parent)):
        return ""
    return f"an absolute path of another machine: write {base if here else f'it as from {folder} on'}"


def _is(what: Callable[[Path], bool], path: Path) -> bool:
    try:
        return what(path)
    except (OSError, ValueError):  # a name too long to be one, or that can be none
        return False

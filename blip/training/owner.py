"""Whose checkpoints lie in a run's folder: a run goes on with its own only, and those of another one are not lost.

    runs/pretrain             of the run as its settings and data are now
    runs/pretrain.lock        held by the process that trains it: a second one is refused
    runs/pretrain.3f9c2a71    of another one that was not finished; with its settings it is found again and goes on
    runs/pretrain.old         without a checkpoint, on its way out

run.json has what the run is made of, so that one is told which setting made it another. A run of an earlier version
goes on where all that it said is the same, and what it knew nothing of is as if there were no such setting. It did not
say its vocabulary, which nobody knows then: it goes on, and one is told.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from blip.atomic import write_json
from blip.earlier import flat, goes_on
from blip.errors import BlipError
from blip.lock import hold, let_go
from blip.rereading import read_again

COMPLETE = "complete"  # the file that makes a folder a checkpoint
DAMAGED = "damaged"  # what that of one that cannot be used is called
OWNER = "run.json"
UNTOLD = "vocabulary"  # in the identity of a new model's run, but of an earlier version
SHOWN = 4  # differences
ENDING_SECONDS = 10.0  # for the life before this one, which was killed or asked to stop


def keep_to_itself(directory: Path) -> None:
    """Let this process alone train the run of `directory`, until `give_up` or its end; before anything is read of it.

    Of several ranks it is the agent that starts them on the first node, or the first rank where there is none.

    Raises:
        BlipError: another process trains it.
    """
    doing = (
        "trains it, and two would mix their checkpoints. Wait for it, or end it: this one then goes on from the last "
        "checkpoint if its settings are the same"
    )
    hold(_lock(directory), str(directory), doing, ENDING_SECONDS)


def give_up(directory: Path) -> None:
    """Let another process train the run."""
    let_go(_lock(directory))


def claim(directory: Path, identity: Mapping[str, Any], unset: Set[str] = frozenset()) -> None:
    """Make `directory` that of the run that is made of `identity`; one process does it before any looks inside.

    Args:
        unset: dotted names in `identity` of what is as if there were no such setting.

    Raises:
        BlipError: nothing says whose the checkpoints are that lie there, or it cannot be read.
    """
    own, plain, unset = fingerprint(identity), _plain(identity), {*unset, UNTOLD}
    owner, has_checkpoints = _owner(directory)
    if owner.get("fingerprint") == own:
        if "identity" not in owner:
            write_json(directory / OWNER, {"fingerprint": own, "identity": plain})
        return
    if "identity" in owner and goes_on(owner["identity"], plain, unset):
        _sign(directory, owner["fingerprint"], own, plain)
        return
    before = _before(directory, own, plain, unset)
    if has_checkpoints:
        aside = _aside(directory, owner["fingerprint"])
        shutil.rmtree(aside, ignore_errors=True)
        directory.rename(aside)
        changes = "; ".join(_changes(owner.get("identity", plain), plain)) or "something else"
        print(
            f"warning: {directory} had checkpoints of a run with other settings or data ({changes}). They are in "
            f"{aside} now, where the run finds them when it is what it was; this one "
            + ("goes on with its own, which were kept there too" if before else "starts anew"),
            file=sys.stderr,
            flush=True,
        )
    with _moved_away(directory):
        if before:
            before.rename(directory)
        else:
            write_json(directory / OWNER, {"fingerprint": own, "identity": plain})


def fingerprint(identity: Mapping[str, Any]) -> str:
    """A digest of everything that a checkpoint must agree on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def _moved_away(directory: Path) -> Iterator[None]:
    """Remove the folder once the new one is there: one that is made behind it may get its inode, and pass for it."""
    old = directory.with_name(f"{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.is_dir():
        directory.rename(old)
    yield
    shutil.rmtree(old, ignore_errors=True)


def _lock(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.lock")


def _owner(directory: Path) -> tuple[dict[str, Any], bool]:
    """What says whose a folder is, and whether there are checkpoints; they say it too, but not what the run is made of.

    Raises:
        BlipError: something cannot be read, or there are checkpoints and nothing says it.
    """
    try:
        markers = read_again(lambda: _markers(directory))
        said = (read_again(partial(_said, file)) for file in (directory / OWNER, *markers))
        owner = next((found for found in said if "fingerprint" in found), {})
    except OSError as error:
        raise _unreadable(directory, error) from error
    if markers and not owner:
        raise BlipError(
            f"{directory} has checkpoints, and neither {OWNER} nor they say of which run: all are damaged. Move the "
            "folder away and run the stage again, which begins at step 0"
        )
    return owner, bool(markers)


def _unreadable(directory: Path, error: OSError) -> BlipError:
    return BlipError(
        f"whose checkpoints {directory} has cannot be read: {error}. They stay as they are; when their disk can be "
        "read, run the stage again"
    )


def _markers(directory: Path) -> list[Path]:
    """Of the newest checkpoint first; behind them of those that are damaged, which the disk alone may be."""
    found = (sorted(directory.glob(f"step-*/{name}"), reverse=True) for name in (COMPLETE, DAMAGED))
    return [marker for markers in found for marker in markers]


def _before(directory: Path, own: str, now: Mapping[str, Any], unset: Set[str]) -> Path | None:
    """Where what the run has done was put aside, also by an earlier version; of that, it says now whose it is.

    Raises:
        BlipError: it cannot be read.
    """
    if (aside := _aside(directory, own)).is_dir():
        return aside
    for folder in sorted(directory.parent.glob(f"{directory.name}.{'[0-9a-f]' * 8}")):
        try:
            owner = read_again(partial(_said, folder / OWNER))
        except OSError as error:
            raise _unreadable(folder, error) from error
        if "identity" in owner and goes_on(owner["identity"], now, unset):
            _sign(folder, owner["fingerprint"], own, now)
            return folder
    return None


def _sign(directory: Path, before: str, own: str, now: Mapping[str, Any]) -> None:
    """Have the run's checkpoints say that they are of `own`, and the folder what that is made of now."""
    markers = _markers(directory)
    for marker in markers:
        if (said := _said(marker)).get("fingerprint") == before:
            write_json(marker, said | {"fingerprint": own})
    if markers and UNTOLD in now and UNTOLD not in _said(directory / OWNER)["identity"]:
        print(
            f"warning: the checkpoints in {directory} are of an earlier version, which did not note their vocabulary. "
            "They go on; if the vocabulary has been made anew since and has other entries, as it has after an update "
            "where texts are not English, their words are others now: end the run then, remove the checkpoints, and "
            "run the stage again, which begins at step 0",
            file=sys.stderr,
            flush=True,
        )
    write_json(directory / OWNER, {"fingerprint": own, "identity": now})


def _said(file: Path) -> dict[str, Any]:
    """What a JSON file says; nothing where it is not there or damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _aside(directory: Path, owner: str) -> Path:
    return directory.with_name(f"{directory.name}.{owner[:8]}")


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it."""
    return json.loads(json.dumps(identity, default=str))


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old, new = dict(flat(before)), dict(flat(now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    said = [f"{name} was {old.get(name)}, is {new.get(name)}" for name in names[:SHOWN]]
    return said + ([f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [])

"""A flow's parameters, written into params.yaml where DVC sees them, with its comments and order kept.

    write_parameters(recipe="base-14m", overrides={"pretrain.steps": 10})

The file is only replaced once the settings that it would give are known to be good.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.mergevalue import MergeValue

from blip.atomic import atomic_path, write_text
from blip.config import NO_RECIPE, PARAMS, load_settings
from blip.errors import BadArguments


def write_parameters(recipe: str | None, overrides: dict[str, Any], path: Path = PARAMS) -> bool:
    """Set `recipe` and the dotted names of `overrides` in params.yaml; True if the file changed.

    Raises:
        BadArguments: a name or value is not known, or the recipe, laid over the file, sets it itself.
    """
    wanted = load_settings(path, recipe, overrides)
    before = path.read_text(encoding="utf-8")
    named = {"recipe": None if recipe == NO_RECIPE else recipe} if recipe else {}
    if not (named or overrides):
        return False
    after = _edited(before, {**named, **overrides})
    if after == before:
        return False
    with atomic_path(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
        if load_settings(temporary) != wanted:
            names = ", ".join(overrides)
            raise BadArguments(
                f"the recipe {wanted.recipe!r} is laid over {path} and sets {names} itself; "
                "change it in the recipe, or copy the recipe under another name"
            )
    return True


@contextmanager
def parameters_on_trial(recipe: str | None, overrides: dict[str, Any], path: Path = PARAMS) -> Iterator[None]:
    """`write_parameters`, taken back if the block ends badly: a run that is refused leaves the file as it was."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    changed = write_parameters(recipe, overrides, path)
    after = path.read_text(encoding="utf-8")
    try:
        yield
    except BaseException:
        if changed and path.read_text(encoding="utf-8") == after:  # nobody has edited it meanwhile
            write_text(path, before)
        raise


def _edited(text: str, values: dict[str, Any]) -> str:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), _represent_null)
    document = yaml.load(text)
    for name, value in values.items():
        _set(document, name.split("."), value)
    result = io.StringIO()
    yaml.dump(document, result)
    return result.getvalue()


def _represent_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _set(section: CommentedMap, names: list[str], value: Any) -> None:
    """Set a value below `section`; a block shared with others (a YAML alias) becomes its own first."""
    name, *rest = names
    if not rest:
        section[name] = value
        return
    inner = section.get(name)
    if not isinstance(inner, CommentedMap):
        inner = CommentedMap()
        inner.fa.set_flow_style()
        section[name] = inner
    elif inner.anchor.value is not None:
        inner = _laid_over(inner)
        section[name] = inner
    _set(inner, rest, value)


def _laid_over(shared: CommentedMap) -> CommentedMap:
    """{<<: *shared}: everything of the shared block until a value is set."""
    own = CommentedMap()
    own.fa.set_flow_style()
    base = MergeValue()
    base.append(shared)
    base.merge_pos = 0
    own.add_yaml_merge(base)
    return own

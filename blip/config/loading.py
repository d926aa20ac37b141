"""Reading params.yaml: a recipe laid over it, single settings over both, and what is wrong in words.

A recipe may be laid over another one in its turn: its first line then is `extends: base-14m`, and it says only in what
it differs.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from blip.config.section import Section
from blip.config.sections import Settings
from blip.config.yaml_text import read_yaml
from blip.errors import BadArguments

PARAMS = Path("params.yaml")
RECIPES = Path("infra/recipes")
RECIPE, NO_RECIPE = "recipe", "none"
SCIENTIFIC = re.compile(r"[-+]?[\d.]+[eE][-+]?\d+")  # 1e-4 is a word to YAML 1.1
MIXTURE = "data"  # the one table that is a value
GATE = "gate"  # a model to its minimums, which are laid over together: another figure takes the place of those below
EXTENDS = "extends"
WRITTEN = Path("reports/settings.yaml")  # by the first stage of dvc.yaml: complete, the recipe laid over it
ANCHORS = ("optimiser", "training", "objective")  # shared YAML blocks, not settings of their own

AnySection = TypeVar("AnySection", bound=Section)


def load_settings(
    path: Path = PARAMS, recipe: str | None = None, overrides: dict[str, Any] | None = None
) -> Settings:
    """Read and check the settings.

    Args:
        path: the params.yaml.
        recipe: name of a file in infra/recipes or a path to one, with what it extends below it; None takes the one
            that `path` names, if any; "none" takes none.
        overrides: dotted names to values, laid over both.

    Raises:
        BadArguments: a file is missing or not YAML, recipes extend each other in a circle, a name or value is not
            known, or a recipe is among them; the message lists each.
    """
    if RECIPE in (overrides or {}):
        raise BadArguments(
            f"{RECIPE} is no setting to lay over others, for it has settings itself; give it as --recipe, or as the "
            f"parameter {RECIPE} of a flow, beside the overrides"
        )
    values = _read_yaml(path)
    recipe = recipe or values.get("recipe")
    filled: list[tuple[str, ...]] = []
    if recipe == NO_RECIPE:
        values["recipe"] = None
    elif recipe:
        laid_over = _merge(values, _read_recipe(_recipe_path(recipe, path.parent), path.parent))
        filled, values = list(_filled(values, laid_over)), laid_over
        values["recipe"] = recipe
    for name, value in (overrides or {}).items():
        _set(values, name, value)
        filled = [names for names in filled if not _on_one_way(names, name.split("."))]
    for anchor in ANCHORS:
        values.pop(anchor, None)
    _leave_off(values, filled)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        given = [f"recipe {values['recipe']}"] if values.get("recipe") else []
        given += ["--set"] if overrides else []
        raise BadArguments(_explain(error, " with ".join([str(path), *given]), Settings)) from None


def read_written() -> Settings:
    """The settings that `blip settings --out` wrote down: complete, with the recipe laid over them already.

    Raises:
        BadArguments: the file is missing or not YAML, or was written by other code than this.
    """
    try:
        return Settings.model_validate(_read_yaml(WRITTEN))
    except ValidationError as error:
        raise BadArguments(_explain(error, WRITTEN, Settings)) from None


def overruled(before: str, recipe: str, path: Path = PARAMS) -> dict[str, tuple[Any, Any]]:
    """What the file says otherwise than `before`, an earlier text of it, and the recipe over it sets itself.

    By name the value that the file has and the recipe's, which counts; None where the recipe leaves it out.
    """
    values = _read_yaml(path)
    laid_over = dict(_leaves(_merge(values, _read_recipe(_recipe_path(recipe, path.parent), path.parent))))
    earlier = dict(_leaves(yaml.safe_load(before) or {}))
    return {
        ".".join(name): (value, laid_over.get(name))
        for name, value in _leaves(values)
        if name[0] not in ANCHORS and value not in (earlier.get(name), laid_over.get(name))
    }


def read_override(text: str) -> tuple[str, Any]:
    """`pretrain.steps=200` as a name and a value, read as YAML. Raises BadArguments if it is written otherwise."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BadArguments(f"{text!r}: write a setting as NAME=VALUE, for example pretrain.steps=200")
    try:
        return name, float(value) if SCIENTIFIC.fullmatch(value) else yaml.safe_load(value)
    except yaml.YAMLError:
        raise BadArguments(f"{text!r}: the value is not YAML; put it in quotes") from None


def read_section(
    section: type[AnySection], values: dict[str, Any], overrides: Iterable[str], given: str = "--set"
) -> AnySection:
    """A section of settings from values and `NAME=VALUE` texts laid over them; `given` is where they stand.

    Raises:
        BadArguments: a name or value is not known, or two values do not go together.
    """
    for name, value in map(read_override, overrides):
        _set(values, name, value)
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise BadArguments(_explain(error, given, section)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadArguments(f"{path}: no such file; run from the project's folder, where params.yaml is")
    return read_yaml(path.read_text(encoding="utf-8"), path)


def _idle_block(tree: yaml.Node | None) -> str:
    """The first of the shared blocks of which no other part of the file takes anything; "" where there is none."""
    parts = tree.value if isinstance(tree, yaml.MappingNode) else []
    for key, block in parts:
        others = (node for other, value in parts if other is not key for node in _nodes(value))
        if key.value in ANCHORS and not {id(node) for node in _nodes(block)} & {id(node) for node in others}:
            return key.value
    return ""


def _nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    """A node and all below it."""
    yield node
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for part in pair:
                yield from _nodes(part)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _nodes(part)


def _read_recipe(path: Path, root: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a recipe says, laid over what the one that it extends says."""
    if path in above:
        circle = " -> ".join(recipe.stem for recipe in (*above[above.index(path) :], path))
        raise BadArguments(
            f"{above[-1]}: recipes extend each other in a circle: {circle}; take one extends out"
        )
    values = _read_yaml(path)
    if idle := _idle_block(yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)):
        raise BadArguments(
            f"{path}: {idle} at the top is a block for runs to share, and none takes it: give it an anchor, `{idle}: "
            f"&{idle}`, and each run that is to have it `{idle}: *{idle}`, or name the run: `pretrain: {{{idle}: ...}}`"
        )
    below = values.pop(EXTENDS, None)
    if below is None:
        return values
    if not isinstance(below, str):
        raise BadArguments(f"{path}: extends: give the name of one recipe (got {below!r})")
    return _merge(_read_recipe(_recipe_path(below, root), root, (*above, path)), values)


def _recipe_path(recipe: str, root: Path) -> Path:
    if recipe.endswith((".yaml", ".yml")):
        return Path(recipe)
    path = root / RECIPES / f"{recipe}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (root / RECIPES).glob("*.yaml"))
        raise BadArguments(f"unknown recipe {recipe!r}; infra/recipes has: {', '.join(known) or 'none'}")
    return path


def _leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All single values, each with the names on the way to it."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, str(name)))
        else:
            yield (*above, str(name)), value


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`, section by section.

    A run given in epochs drops the steps below it, and vice versa; a mixture of data is laid over as a whole, and so
    are the minimums of a model in the gate.
    """
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, dict) and isinstance(value, dict) and name != MIXTURE:
            merged[name] = below | value if name == GATE else _merge(below, value)
        else:
            merged[name] = value
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if one in over and other not in over:
            merged.pop(other, None)
    return merged


def _filled(values: dict[str, Any], laid_over: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The names of what is null, and has settings with a recipe laid over."""
    for name, value in values.items():
        over = laid_over.get(name)
        if isinstance(over, dict):
            if value is None:
                yield (name,)
            elif isinstance(value, dict):
                yield from ((name, *below) for below in _filled(value, over))


def _on_one_way(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether two names are of the same setting, or one of what is below the other."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _leave_off(values: dict[str, Any], filled: list[tuple[str, ...]]) -> None:
    """Make null again what had been left out and a recipe says only a part of, and nothing wrong."""
    try:
        Settings.model_validate(values)
    except ValidationError as error:
        problems = [(problem["loc"], problem["type"]) for problem in error.errors()]
        for names in filled:
            if {kind for place, kind in problems if place[: len(names)] == names} == {"missing"}:
                _set(values, ".".join(names), None)


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    """Set a dotted name; the sections on the way are copied, as YAML aliases share them with others."""
    *sections, last = name.split(".")
    if (sections or [last])[0] in ANCHORS:
        raise BadArguments(
            f"{name}: a block that several runs share, not a setting; name the run: pretrain.{name}"
        )
    for section in sections:
        inner = values.get(section, {})
        if not isinstance(inner, dict):
            raise BadArguments(f"parameter {name}: {section} is not a section")
        inner = dict(inner)
        values[section] = inner
        values = inner
    values[last] = value


def _explain(error: ValidationError, path: Path | str, section: type[Section]) -> str:
    lines = [f"{path}: {error.error_count()} setting(s) cannot be used:"]
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {name}: no such setting{_suggest(section, problem['loc'])}")
        elif problem["type"] == "value_error":  # a rule about the whole of a section
            rule = problem["msg"].removeprefix("Value error, ")
            lines.append(f"  {name}: {rule}" if name else f"  {rule}")
        else:
            lines.append(f"  {name}: {problem['msg']} (got {problem['input']!r})"[:300])
    return "\n".join(lines)


def _suggest(section: type[Section], location: tuple[int | str, ...]) -> str:
    model: Any = section
    for part in location[:-1]:
        fields = getattr(model, "model_fields", {})
        by_name = {(field.alias or name): field.annotation for name, field in fields.items()}
        model = by_name.get(str(part))
    names = [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

"""Which stages a stage needs, and which need it."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from blip.config.graph import PHASES, STAGES
from blip.errors import BadArguments

TRAINING = frozenset(
    (*PHASES["pretraining"], "captioner", "filter", "pretrain_bootstrapped", "rounds", *PHASES["finetuning"])
)


def upstream(name: str) -> frozenset[str]:
    """Every stage that `name` needs, directly or not, without itself."""
    return frozenset(STAGES[name]).union(*(upstream(parent) for parent in STAGES[name]))


def up_to(name: str | None) -> tuple[str, ...]:
    """The stages that `name` needs, and itself, in order; all of them for None. Raises BadArguments."""
    if name is None:
        return tuple(STAGES)
    if name not in STAGES:
        close = get_close_matches(name, STAGES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise BadArguments(f"there is no stage {name!r}{hint}; the stages are: {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage == name or stage in upstream(name))


def with_downstream(names: Iterable[str]) -> frozenset[str]:
    """The stages named and every stage that depends on one of them."""
    changed = frozenset(names)
    return frozenset(stage for stage in STAGES if stage in changed or upstream(stage) & changed)


def parents(name: str, among: Collection[str]) -> frozenset[str]:
    """The stages of `among` that `name` waits for, also through such as are not among them."""
    found = ({parent} if parent in among else parents(parent, among) for parent in STAGES[name])
    return frozenset().union(*found)

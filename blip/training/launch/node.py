"""The agent's work on one order: start this node's ranks, watch them, end them, and say how it went.

    report = work(order, place, store, ("gpu01", 29400), stop, look)

It looks twice a second for: a rank that ended badly, a rank whose heartbeat stopped, a request to stop (from here or
another node: the ranks agree among themselves on the step), and trouble on another node. Whatever comes, at the end
no process of the order is left on this node.
"""

import json
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from blip.errors import PREEMPTED
from blip.training.heartbeat import Sign, last_sign
from blip.training.launch.place import Place
from blip.training.launch.ranks import Order, Ranks

if TYPE_CHECKING:
    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]

POLL_SECONDS = 0.25
ALIVE_SECONDS = 2.0  # between two signs of life of an agent
# After the first bad end: the others fail of it at once, and the cause may be seen second
SETTLE_SECONDS = 1.0
GRACE_SECONDS = 5.0  # to end, for ranks whose run cannot go on
WAITING = 1.5  # times the patience, of ranks that wait behind a step: the one to name may be elsewhere

Kind = Literal["killed", "hung", "lost", "failed", "late", "elsewhere", "stopped", "done"]
# Worst first
CAUSES: tuple[Kind, ...] = ("killed", "hung", "lost", "failed", "late", "elsewhere", "stopped", "done")


@dataclass(frozen=True)
class Report:
    """How an order ended on a node; what happened there first is said in `text`.

    Attributes:
        progress: how far the rank is that hangs, step and phase; the least of all nodes is the one all wait for.
    """

    node: int
    kind: Kind
    text: str = ""
    progress: tuple[int, ...] = ()

    def dump(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: bytes) -> "Report":
        """From the store."""
        values = json.loads(text)
        return cls(**values | {"progress": tuple(values["progress"])})


def work(
    order: Order,
    place: Place,
    store: "Store",
    address: tuple[str, int],
    stop: threading.Event,
    look: Callable[[], Report | None] = lambda: None,
) -> Report:
    """Do this node's part of an order.

    Args:
        address: of the store, for the ranks.
        stop: set by a signal to this agent.
        look: called all the time; what it finds wrong ends the order.
    """
    with tempfile.TemporaryDirectory(prefix="blip-beats-") as beats:
        ranks = Ranks(order, place, address, Path(beats))
        try:
            report = _watch(order, place, store, ranks, stop, look)
        except BaseException as error:
            # After Ctrl-C they save a checkpoint; without node 0 they cannot.
            ranks.end(order.stop_timeout if isinstance(error, KeyboardInterrupt) else GRACE_SECONDS)
            raise
        ranks.end(GRACE_SECONDS)
    store.set(f"ended/{order.number}/{place.node}", report.dump())
    return report


def _watch(
    order: Order,
    place: Place,
    store: "Store",
    ranks: Ranks,
    stop: threading.Event,
    look: Callable[[], Report | None],
) -> Report:
    """Until the ranks have ended or may not go on."""
    failed, stopped = f"failed/{order.number}", f"stopped/{order.number}"
    asked_at: float | None = None
    next_sign = 0.0
    while True:
        if time.monotonic() >= next_sign:
            store.add(f"alive/{place.node}", 1)
            next_sign = time.monotonic() + ALIVE_SECONDS
        trouble = _bad_end(order, place, ranks, asked_at is not None) or _hang(order, place, ranks) or look()
        if trouble is None and asked_at and time.monotonic() - asked_at > order.stop_timeout:
            trouble = Report(place.node, "late", f"the ranks did not save within {order.stop_timeout:.0f} s")
        if trouble is not None:
            store.set(failed, trouble.dump())
            return trouble
        if not ranks.running():
            return _good_end(place, store, ranks, stopped)
        if store.check([failed]):
            other = Report.load(store.get(failed))
            return _further_behind(other, place, ranks) or Report(place.node, "elsewhere")
        if asked_at is None and (stop.is_set() or store.check([stopped])):
            asked_at = time.monotonic()
            ranks.send(signal.SIGTERM)
        time.sleep(POLL_SECONDS)


def _good_end(place: Place, store: "Store", ranks: Ranks, stopped: str) -> Report:
    if any(ranks.codes().values()):
        store.set(stopped, "1")  # ranks of other nodes that have not begun would wait for these
        return Report(place.node, "stopped")
    return Report(place.node, "done")


def _bad_end(order: Order, place: Place, ranks: Ranks, asked: bool) -> Report | None:
    """A rank that ended with an error; of several the one that a signal ended, for the others fail of that."""
    if not _bad(ranks, asked):
        return None
    time.sleep(SETTLE_SECONDS)
    bad = _bad(ranks, asked)
    rank = min(bad, key=lambda one: (bad[one] > 0, one))
    process, code = ranks.processes[rank], bad[rank]
    how = f"was ended by {_signal_name(code)}" if code < 0 else f"ended with code {code}"
    after = last_sign(ranks.beat_file(rank))
    last = f"in {after}" if after else "before its first step"
    text = f"rank {rank} ({place.host(place.node)}, process {process.pid}) {how}, {last}"
    return Report(place.node, "killed" if code < 0 else "failed", text)


def _bad(ranks: Ranks, asked: bool) -> dict[int, int]:
    """Exit codes that are no good end; one that had not set up its handlers is ended by a request to stop."""
    good = {None, 0, PREEMPTED} | ({-signal.SIGTERM, -signal.SIGUSR1} if asked else set())
    return {rank: code for rank, code in ranks.codes().items() if code not in good and code is not None}


def _hang(order: Order, place: Place, ranks: Ranks) -> Report | None:
    """Ranks whose last sign is too old. All wait for the one that is the least far: it hangs, if it is late too.

    One that waits may be late first, where the other was slow and then hung: it is not the one to name.
    """
    signs = _signs(ranks)
    ages = _ages(ranks, signs)
    late = [rank for rank, age in ages.items() if age > _patience(order, signs[rank])]
    if not late:
        return None
    behind = [rank for rank in _least(signs) if rank in late]
    stopped = [rank for rank in ranks.stopped() if rank in late]
    named = stopped or behind
    if not named:
        return None
    ranks.dump_stacks(named)
    text = _hanging(named, bool(stopped), place, ranks, signs, ages)
    return Report(place.node, "hung", text, _progress(signs[named[0]]))


def _further_behind(other: Report, place: Place, ranks: Ranks) -> Report | None:
    """A hang that another node has seen, if one of this node's ranks is what the rank named there waits for."""
    signs = _signs(ranks)
    named = _least(signs)
    if other.kind != "hung" or not named or _progress(signs[named[0]]) >= other.progress:
        return None
    ages = _ages(ranks, signs)
    ranks.dump_stacks(named)
    text = _hanging(named, False, place, ranks, signs, ages)
    return Report(place.node, "hung", text, _progress(signs[named[0]]))


def _signs(ranks: Ranks) -> dict[int, Sign | None]:
    """The last signs of the ranks that run."""
    return {rank: last_sign(ranks.beat_file(rank)) for rank, code in ranks.codes().items() if code is None}


def _ages(ranks: Ranks, signs: dict[int, Sign | None]) -> dict[int, float]:
    now = time.monotonic()
    return {rank: now - (sign.seconds if sign else ranks.began) for rank, sign in signs.items()}


def _least(signs: dict[int, Sign | None]) -> list[int]:
    """The ranks that are the least far."""
    least = min(map(_progress, signs.values()), default=())
    return [rank for rank, sign in signs.items() if _progress(sign) == least]


def _hanging(
    named: list[int],
    stopped: bool,
    place: Place,
    ranks: Ranks,
    signs: dict[int, Sign | None],
    ages: dict[int, float],
) -> str:
    rank = named[0]
    processes = ", ".join(str(ranks.processes[one].pid) for one in named)
    many = "ranks" if len(named) > 1 else "rank"
    who = f"{many} {', '.join(map(str, named))} ({place.host(place.node)}, process {processes})"
    what = "stopped or stuck in the system" if stopped else "hung"
    last = signs[rank] or "before the first step"
    return f"{who} {what}: no sign for {ages[rank]:.0f} s, the last in {last}; the stacks are above"


def _patience(order: Order, sign: Sign | None) -> float:
    unhurried = sign is None or sign.first or sign.phase == "finished"
    if unhurried:
        return max(order.start_timeout, order.hang_timeout)
    return order.hang_timeout * (WAITING if sign and sign.phase == "vote" else 1.0)


def _progress(sign: Sign | None) -> tuple[int, int]:
    return sign.progress if sign else (-1, 0)


def _signal_name(code: int) -> str:
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"

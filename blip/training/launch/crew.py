"""Node 0 of a run: holds the store, gives orders to its own ranks and the other nodes', and says how it ended.

    with Crew(place, settings.launch) as crew:
        crew.run("pretrain", ranks=16, arguments=[...], marker=saved, threads=1)

Success is the marker that rank 0 writes last, whatever exit codes say.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from blip.config import Launch
from blip.errors import FAILED, PREEMPTED, BlipError, Preempted
from blip.training.launch import hostfile, node
from blip.training.launch.node import CAUSES, Report
from blip.training.launch.place import Place
from blip.training.launch.ranks import Order
from blip.training.launch.store import serve
from blip.training.memory import release
from blip.training.owner import keep_to_itself
from blip.training.preemption import stop_requested

SILENCE_SECONDS = 60.0  # without a sign of life of a node's agent, which gives one every 2 s
LAST_WORDS_SECONDS = 15.0  # for the other nodes' reports, once this node's ranks have ended
SAID = 3  # nodes whose equal reports are told
ARRIVAL_SECONDS = 60.0  # since the store is there, for nodes that are slower to start than this one is to end

_of_stage: ContextVar["Crew | None"] = ContextVar("crew", default=None)


class Crew:
    """The nodes of a run, until the context is left.

    Nodes that somebody else starts find the store from the beginning, so that they hear of whatever goes wrong before
    the first order. Those that node 0 starts itself, and the store for its own ranks, wait for that order.
    """

    def __init__(self, place: Place, launch: Launch) -> None:
        self.place, self._launch = place, launch
        self._orders = 0
        self._open = ExitStack()
        self._store = None
        self._began = 0.0
        self._heard: dict[int, tuple[int, float]] = {}

    def __enter__(self) -> "Crew":
        if self.place.nodes > 1 and not self.place.remote:
            self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._store.set("end", str(_code(error)))
            self._dismiss()
        self._open.close()

    def run(self, name: str, ranks: int, arguments: Sequence[str], marker: Path, threads: int) -> None:
        """Have all nodes run a module on their ranks, and wait.

        Raises:
            Preempted: the ranks were asked to stop; those that trained have saved a checkpoint.
            BlipError: they ended without writing `marker`; says which rank was the cause.
            BlipError: another process trains in the folder of `marker`.
            BadArguments: the nodes cannot have that many ranks.
        """
        keep_to_itself(marker.parent)
        marker.unlink(missing_ok=True)
        order = self._order(name, ranks, arguments, threads)
        release()  # of what this process validated before: a rank is on the same GPU
        with stop_requested() as stop:
            store = self._opened()
            store.set(f"order/{order.number}", json.dumps(asdict(order)))
            own = node.work(
                order, self.place, store, (self.place.master, store.port), stop, self._silent_node
            )
            reports = [own, *self._reports(order)]
        if marker.is_file():
            return
        worst = _cause(reports)
        if worst.kind in ("stopped", "late"):
            raise Preempted(
                f"{name}: the ranks were stopped; run it again to go on from what they have saved"
                + (f" ({worst.text}: raise launch.stop_timeout if the disk is slow)" if worst.text else "")
            )
        text = worst.text or "no rank gave a reason"
        raise BlipError(
            f"{name}: the {ranks} ranks ended before all was done: {text}. Messages of the ranks are above. "
            "Run it again to go on from what they have saved"
        )

    def _order(self, name: str, ranks: int, arguments: Sequence[str], threads: int) -> Order:
        self._orders += 1
        launch = self._launch
        return Order(
            self._orders,
            name,
            tuple(arguments),
            self.place.slots(ranks),
            threads,
            launch.start_timeout,
            launch.hang_timeout,
            launch.stop_timeout,
        )

    def _opened(self):
        if self._store is None:
            self._store = _store(self.place)
            if self.place.remote:
                self._open.enter_context(hostfile.started(self.place, self._launch, self._store.port))
            self._began = time.monotonic()
            never = (0, self._began + self._launch.start_timeout)
            self._heard = dict.fromkeys(range(1, self.place.nodes), never)
            if self.place.nodes > 1:
                print(f"{self.place.nodes} nodes meet at {self.place.master}:{self._store.port}", flush=True)
        return self._store

    def _silent_node(self) -> Report | None:
        """A node whose agent has given no sign for too long: its machine is down, or out of reach."""
        assert self._store is not None
        now = time.monotonic()
        for other, (count, deadline) in self._heard.items():
            new = self._store.add(f"alive/{other}", 0)
            if new != count:
                self._heard[other] = new, now + SILENCE_SECONDS
            elif now > deadline:
                waited = SILENCE_SECONDS if count else self._launch.start_timeout
                said = "has not been heard of" if count else "did not come"
                return Report(
                    other, "lost", f"node {other} ({self.place.host(other)}) {said} for {waited:.0f} s"
                )
        return None

    def _reports(self, order: Order) -> Iterator[Report]:
        """What the other nodes say of an order; a node that has never come, or says nothing in time, is left out."""
        assert self._store is not None
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        for other, (count, _) in self._heard.items():
            key = f"ended/{order.number}/{other}"
            while count and not self._store.check([key]) and time.monotonic() < deadline:
                time.sleep(node.POLL_SECONDS)
            if self._store.check([key]):
                yield Report.load(self._store.get(key))

    def _dismiss(self) -> None:
        """Wait a little until the others know that it is over, for the store ends with this process."""
        assert self._store is not None
        came = [other for other in self._heard if self._store.add(f"alive/{other}", 0)]
        arrival = self._began + min(self._launch.start_timeout, ARRIVAL_SECONDS)
        words = time.monotonic() + LAST_WORDS_SECONDS
        until = dict.fromkeys(self._heard, arrival) | dict.fromkeys(came, words)
        while waiting := [other for other in until if not self._store.check([f"gone/{other}"])]:
            if time.monotonic() > max(until[other] for other in waiting):
                break
            time.sleep(node.POLL_SECONDS)
        for other in set(came).intersection(waiting):
            print(f"warning: node {other} ({self.place.host(other)}) did not say goodbye", file=sys.stderr)


def _cause(reports: Sequence[Report]) -> Report:
    """The worst of the nodes' reports, of hangs the least far: all wait for that rank. Of equal ones all are said."""

    def badness(report: Report) -> tuple[int, tuple[int, ...]]:
        return CAUSES.index(report.kind), report.progress

    worst = min(reports, key=badness)
    texts = [report.text for report in reports if badness(report) == badness(worst) and report.text]
    more = [f"and {len(texts) - SAID} more nodes"] if len(texts) > SAID else []
    return replace(worst, text="; ".join([*texts[:SAID], *more]))


def _code(error: BaseException | None) -> int:
    """What the other nodes are to end with; SIGTERM outside the ranks' work is a request to stop, too."""
    if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
        return PREEMPTED
    return getattr(error, "exit_code", FAILED) if error else 0


def _store(place: Place):
    from blip.training.launch.store import join

    return join(place.master, place.port, 60.0) if place.served else serve(place.master, place.port)


@contextmanager
def crew_of_stage(place: Place, launch: Launch) -> Iterator[None]:
    """The nodes that a stage's training runs use, one after the other."""
    with Crew(place, launch) as crew:
        token = _of_stage.set(crew)
        try:
            yield
        finally:
            _of_stage.reset(token)


def current_crew() -> Crew | None:
    """The nodes of the stage that runs; None outside a stage."""
    return _of_stage.get()

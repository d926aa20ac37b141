"""The task of every flow: one DVC stage in a process group of its own.

DVC decides whether the stage has to run, keeps its outputs and writes dvc.lock. This adds the live log,
retries that resume from a checkpoint, and an end for all that the stage started when the run is cancelled.
"""

import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run
from prefect.states import Cancelled, Completed, Failed

from blip.credentials import shown
from blip.errors import PREEMPTED
from flows.process import ask_to_end, lines, supervised
from flows.project import DVC, LOGS, settings_in_use, stage_environment
from flows.stage_log import StageLog

INTERRUPTED = "Interrupted"  # the name of a failed state that another attempt can mend
EXITED = re.compile(r"exited with (-?\d+)\s*$")
LOCKED = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")
UNCHANGED = re.compile(r"^Stage '[^']+' (didn't change, skipping|is cached - skipping run)")
DVC_TALK = re.compile(
    r"^(Running stage '|Stage '|> |Updating lock file|Generating lock file|Use `dvc push`|"
    r"WARNING: '[^']+' is empty|To track the changes with git|To enable auto staging|\tgit add|"
    r"\s*dvc config core\.autostage|"
    r"Data and pipelines are up to date)"
)
LAST_LINES = 12
AFTERWARDS = 15.0  # seconds a stage needs to end, once its ranks have saved or were given up
LOOK_AGAIN = 5.0  # seconds
ENDED_BY_SIGNAL = range(129, 193)  # as shells say it; DVC's own failures are 255 and 254

_stopping = threading.Event()
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Outcome:
    """How a stage's process ended: its exit code (None: not known), if DVC skipped it, its last words."""

    succeeded: bool
    exit_code: int | None
    unchanged: bool
    message: str

    @property
    def locked(self) -> bool:
        """Whether another process holds what DVC would have to lock."""
        return self.exit_code is None and bool(LOCKED.search(self.message))

    @property
    def interrupted(self) -> bool:
        """Preempted, killed by a signal, or held up by a lock: not a mistake that would repeat itself."""
        if self.exit_code is None:
            return self.locked
        return self.exit_code == PREEMPTED or self.exit_code in ENDED_BY_SIGNAL


def worth_another_attempt(_task: Any, _run: Any, state: State) -> bool:
    """A retry resumes from the last checkpoint; a mistake of the user's would only fail again."""
    return state.name == INTERRUPTED and not _stopping.is_set()


@task(
    task_run_name="{name}",
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=worth_another_attempt,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_stage(name: str, up_to_date: bool = False) -> State:
    """Bring one stage up to date; its state is Cached when there was nothing to do.

    Args:
        name: a stage of dvc.yaml.
        up_to_date: DVC has said so already, so it is not asked again.
    """
    if up_to_date:
        return Completed(name="Cached", message="up to date")
    if _stopping.is_set():  # an attempt that was still waiting for its turn
        return Cancelled(message=f"{name} was not tried again: the run was ended")
    environment, again = stage_environment(str(flow_run.id or "")), (task_run.run_count or 1) > 1
    outcome = reproduce(name, environment, get_run_logger().info, "a" if again else "w")
    if outcome.locked and not again:
        outcome = once_unlocked(outcome, lambda: reproduce(name, environment, get_run_logger().info, "a"))
    if outcome.succeeded and outcome.unchanged:
        return Completed(name="Cached", message="its inputs did not change")
    if outcome.succeeded:
        return Completed(message="done")
    if _stopping.is_set():
        return Cancelled(message=f"{name} was stopped")
    return Failed(name=INTERRUPTED if outcome.interrupted else "Failed", message=f"{name}: {outcome.message}")


def once_unlocked(outcome: Outcome, attempt: Callable[[], Outcome]) -> Outcome:
    """Try again for as long as the stage of a run that was cancelled just now may take to save and let go."""
    deadline = time.monotonic() + settings_in_use().launch.stop_timeout + AFTERWARDS
    while outcome.locked and time.monotonic() < deadline and not _stopping.wait(LOOK_AGAIN):
        outcome = attempt()
    return outcome


def reproduce(
    name: str, environment: dict[str, str], show: Callable[[str], None], log_mode: str = "w"
) -> Outcome:
    """`dvc repro --single-item NAME`; all it says goes to .blip/logs, the stage's lines also to `show`."""
    story = Story()
    command = [*DVC, "repro", "--single-item", name]
    grace = settings_in_use().launch.stop_timeout + AFTERWARDS
    with (
        closing(StageLog(LOGS / f"{name}.log", log_mode, show)) as log,
        supervised(command, environment, grace) as process,
        _known(process),
    ):
        if _stopping.is_set():  # since the task looked, before the process could be found
            ask_to_end(process)
        for line in map(shown, lines(process)):  # tracebacks quote addresses with passwords
            log.add(line)
            if story.heard(line):
                show(line)
        code = process.wait()
    code = _as_shells_say(code)
    if code in ENDED_BY_SIGNAL:
        return Outcome(False, code, False, f"dvc was killed ({story.message()})")
    return Outcome(code == 0, story.exit_code, story.unchanged, story.message())


def _as_shells_say(code: int) -> int:
    """DVC runs a stage in the user's shell: one replaces itself by the command (-9), another reports 128 + 9."""
    return code if code >= 0 else 128 - code


@contextmanager
def _known(process: subprocess.Popen[bytes]) -> Iterator[None]:
    _running.add(process)
    try:
        yield
    finally:
        _running.discard(process)


class Story:
    """What the output of `dvc repro` tells: DVC's talk, the stage's own lines, and how the stage ended."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.unchanged = False
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def heard(self, line: str) -> bool:
        """Take in a line; True if it is worth showing."""
        self.unchanged = self.unchanged or bool(UNCHANGED.match(line))
        if match := EXITED.search(line) if line.startswith("ERROR: failed to reproduce") else None:
            self.exit_code = _as_shells_say(int(match[1]))
            return False
        if DVC_TALK.match(line):
            return False
        self._last.append(line)
        return True

    def message(self) -> str:
        """The error that the stage ended with; when it said none, its last lines (only the last if it was ended)."""
        spoken = list(self._last)
        starts = [at for at, line in enumerate(spoken) if line.lower().startswith(("error:", "traceback"))]
        ending = "" if self.exit_code in (None, 1, 2) else f" (exit code {self.exit_code})"
        return "\n".join(spoken[starts[-1] :] if starts else spoken[-1:] if ending else spoken) + ending


def stop_all_stages() -> None:
    """End the running stages and start no further attempt; to save a checkpoint they have `launch.stop_timeout`."""
    _stopping.set()
    for process in list(_running):
        ask_to_end(process)


def allow_attempts() -> None:
    """Allow attempts again, at the start of a run."""
    _stopping.clear()

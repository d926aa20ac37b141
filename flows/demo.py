"""The whole pipeline on the embedded sample, in this process; nothing has to be running.

    make demo                                            # or: python -m flows.demo
    python -m flows.demo --until pretrain --set pretrain.steps=200

Ends with the figures beside their bars and the way to the report. Running it again continues after an
interruption, and finds nothing to do when all is up to date.
"""

import argparse
import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx

from blip.config import PARAMS, load_settings, read_override
from blip.credentials import shown
from blip.errors import DONE, FAILED, BlipError
from blip.room import lacks_room, no_room
from blip.spelling import print_anything
from flows.addresses import ask_own_servers_directly, named_prefect, reserved_port, running_prefect
from flows.graph import up_to
from flows.project import NO_TELEMETRY, PREFECT_HOME
from flows.servers import RunningServer, prefect_server, started

INTERRUPTED = 130
CONTINUES = "the same command continues where this stopped"
SETTINGS = {
    **NO_TELEMETRY,
    "PREFECT_LOGGING_FORMATTERS_STANDARD_DATEFMT": "%H:%M:%S",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": "%(asctime)s | %(task_run_name)-23s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s | %(flow_name)-23s | %(message)s",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the flow, show its progress and its result; the exit code of the command."""
    print_anything()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
    try:
        options = parse(arguments)
        check(options)
        server = prepare()
        from flows.pipeline import end_to_end  # reads the settings of Prefect as it is imported

        if server:
            server.wait_until_up()
        return run(lambda: end_to_end(**options, return_state=True), whole=options["until"] is None)
    except BlipError as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if not lacks_room(error):
            raise
        print(f"error: {no_room(error)}", file=sys.stderr)
        return FAILED
    except httpx.TransportError as error:
        said = shown(str(error))
        print(f"error: the Prefect server does not answer any more ({said}); {CONTINUES}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"\ninterrupted; {CONTINUES}", file=sys.stderr)
        return INTERRUPTED


def run(flow: Callable[[], Any], whole: bool) -> int:
    """Run the flow and show how it ended, with the figures if it was the whole one; the exit code of the command."""
    from flows.results import show_results

    began = time.monotonic()
    state = flow()
    if not state.is_completed():
        print(
            f"\nerror: {state.message}\n\nOnce that is mended, the same command continues.", file=sys.stderr
        )
        return FAILED
    show_results(time.monotonic() - began, state.message or "", whole)
    return DONE


def parse(arguments: list[str] | None) -> dict[str, Any]:
    """The flow's parameters from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.demo", description="the whole pipeline, end to end"
    )
    parser.add_argument("--until", metavar="STAGE", help="the last stage wanted, with all it needs")
    parser.add_argument(
        "--recipe", metavar="NAME", help="a file of infra/recipes, laid over params.yaml; or none"
    )
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="pretrain.steps=500")
    parser.add_argument("--parallel", metavar="N", type=int, default=2, help="stages at once (default 2)")
    options = vars(parser.parse_args(arguments))
    overrides = dict(read_override(text) for text in options.pop("set"))
    return {**options, "overrides": overrides}


def check(options: dict[str, Any]) -> None:
    """Refuse what the flow would refuse, before a server is started for it; say of a recipe that it stays.

    Raises:
        BadArguments: there is no such stage, recipe or setting.
    """
    up_to(options["until"])
    if recipe := load_settings(PARAMS, options["recipe"], options["overrides"]).recipe:
        print(f"recipe {recipe}: params.yaml has it until another is named; --recipe none takes it out")


def prepare() -> RunningServer | None:
    """Settings of Prefect, and a server for this run unless `make ui` or PREFECT_API_URL has one."""
    for name, value in {**SETTINGS, "PREFECT_HOME": str(PREFECT_HOME.resolve())}.items():
        os.environ.setdefault(name, value)
    ask_own_servers_directly()
    if named_prefect() is None and (api := running_prefect()):
        os.environ["PREFECT_API_URL"] = api
    if "PREFECT_API_URL" in os.environ:
        return None
    stack = ExitStack()
    server = prefect_server(stack.enter_context(reserved_port("prefect")))
    os.environ.update(server.settings)
    print(f"Prefect: {server.url} while this runs", flush=True)
    atexit.register(stack.close)  # Prefect sends its last logs while threads are joined, which is before this
    return stack.enter_context(started(server))


if __name__ == "__main__":
    sys.exit(main())

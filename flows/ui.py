"""The pages, on the loopback address: Prefect, MLflow, and the reports with the Data Docs.

    make ui        # or: python -m flows.ui

Prints where they are and waits; Ctrl-C ends all three. A port in use is passed over for the next free one. Servers
that MLFLOW_TRACKING_URI and PREFECT_API_URL name are shown in the place of its own.
"""

import argparse
import functools
import http.server
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from blip.atomic import write_json
from blip.config.places import DATA_DOCS, GALLERY, REPORT, REPORTS
from blip.credentials import shown
from blip.errors import DONE, FAILED, BlipError
from blip.lock import hold, is_held, let_go
from blip.ports import HOST
from blip.room import lacks_room, no_room
from blip.signals import end_by_signals
from blip.spelling import print_anything
from flows.addresses import (
    ANNOUNCED,
    UP,
    announced,
    answers,
    ask_own_servers_directly,
    named_prefect,
    page_of,
    reserved_port,
)
from flows.deploy import let_go_of_lost_runs
from flows.servers import Server, mlflow_server, prefect_server, started

PAGES = (
    (REPORT, "The report of the last run"),
    (GALLERY, "CapFilt: what it kept, and why not the rest"),
    (DATA_DOCS, "Data Docs: what validation found"),
)


def main(arguments: list[str] | None = None) -> int:
    """Start the pages, say where they are, and wait for Ctrl-C or for one of them to end."""
    argparse.ArgumentParser(prog="python -m flows.ui", description="the pages, until Ctrl-C").parse_args(
        arguments
    )
    end_by_signals()
    print_anything()
    ask_own_servers_directly()
    try:
        if is_held(UP):
            there = ", ".join(announced().values()) or "they are starting"
            raise BlipError(
                f"the pages are up already: {there}; end the other `make ui` first (or remove {UP}, if there is none)"
            )
        hold(UP, "the pages", "serves them; end the other `make ui` first")
        with ExitStack() as stack:
            stack.callback(let_go, UP)
            serve(stack)
    except BlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if not lacks_room(error):
            raise
        print(f"error: {no_room(error)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nthe pages are closed")
    return DONE


def serve(stack: ExitStack) -> None:
    """Start the servers on `stack`, announce them, and return only by an exception."""
    began = time.time()
    servers: list[Server] = []
    addresses = {"mlflow": shown(os.environ.get("MLFLOW_TRACKING_URI", ""))}
    if (named := named_prefect()) is None:
        servers.append(prefect_server(stack.enter_context(reserved_port("prefect"))))
    if not addresses["mlflow"].startswith("http"):
        servers.append(mlflow_server(stack.enter_context(reserved_port("mlflow"))))
    addresses["reports"] = stack.enter_context(report_pages(stack.enter_context(reserved_port("reports"))))
    if servers:
        print(f"starting {' and '.join(server.name for server in servers)} ...", flush=True)
    running = [stack.enter_context(started(server)) for server in servers]
    for server in running:
        server.wait_until_up()
    announce(stack, addresses | {server.name: server.url for server in servers}, named)
    if named is None:
        let_go_of_lost_runs(servers[0].settings, began)
    while True:
        for server in running:
            server.require_alive()
        time.sleep(1.0)


def announce(stack: ExitStack, addresses: dict[str, str], named: str | None) -> None:
    """Print where the pages are, and write it down for as long as they are there.

    Args:
        named: the API of somebody's Prefect server, which is shown; what is written down is for this project alone.
    """
    write_json(ANNOUNCED, addresses)
    stack.callback(ANNOUNCED.unlink, missing_ok=True)
    silent = named is not None and not answers(f"{named.rstrip('/')}/health")
    about = "  (does not answer; without PREFECT_API_URL there is one here)" if silent else ""
    print(f"  Prefect              {page_of(named) if named else addresses['prefect']}{about}")
    print(f"  MLflow               {addresses['mlflow']}")
    print(f"  report, Data Docs    {addresses['reports']}")
    print("Ctrl-C closes them.", flush=True)


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>BLIP reports</title>
<meta name="viewport" content="width=device-width">
<style>
  body {{ font: 18px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 12vh auto; padding: 0 1.5rem;
         color: #17211e; background: #f7f9f8 }}
  ul {{ list-style: none; padding: 0 }} li {{ border-top: 1px solid #d5dcd9; padding: 0.8rem 0 }}
  a {{ color: #0f766e }}
  @media (prefers-color-scheme: dark) {{ body {{ color: #e6ecea; background: #141a18 }} a {{ color: #5eead4 }} }}
</style>
<h1>Reports</h1><ul>{rows}</ul></html>"""


@contextmanager
def report_pages(port: int) -> Iterator[str]:
    """Serve the folder of reports from a thread; gives its address."""
    REPORTS.mkdir(exist_ok=True)
    handler = functools.partial(ReportPages, directory=str(REPORTS))
    with http.server.ThreadingHTTPServer((HOST, port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{port}"
        server.shutdown()


class ReportPages(http.server.SimpleHTTPRequestHandler):
    """The files below reports/, and at / a page that leads to them."""

    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        page = contents().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal free of requests."""


def contents() -> str:
    """The page that leads to the report and the Data Docs; what has not been made yet says so."""
    rows = [
        f'<li><a href="/{folder.name}/index.html">{title}</a></li>'
        if (folder / "index.html").is_file()
        else f"<li>{title}: not there yet, <code>make demo</code> makes it</li>"
        for folder, title in PAGES
    ]
    return PAGE.format(rows="".join(rows))


if __name__ == "__main__":
    sys.exit(main())

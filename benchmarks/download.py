"""URL lists: memory of the reader, and a download with faults, killed and resumed.

    python benchmarks/download.py [--urls 10000] [--rows 1000000 10000000]

Starts its own server on loopback (that of the tests, in a process of its own) and prints Markdown tables.
"""

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from blip.config import Download, Ingest, Source
from blip.data.jobs import open_pool
from blip.data.pairs import PairsDataset
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.sources.urls import Address, read_rows
from tests.ingest.download.server import BECOMES

FAULTS_EACH = 20  # one URL in so many is a fault, the kinds in turn
PICTURES = 500  # different ones, so that the server's processor time is small
SETTINGS = Download.model_validate(
    {
        "networks": ["127.0.0.1"],
        "connections": 256,
        "connections_per_host": 256,
        "connect_seconds": 10,
        "read_seconds": 5,
        "total_seconds": 10,
        "retries": 1,
    }
)


def list_of(path: Path, rows: int) -> None:
    """A list of made-up URLs in the form that the file's name asks for."""
    named = (
        (f"http://host{n % 5000}.test/{n}.jpg", f"a picture of number {n} beside a red chair")
        for n in range(rows)
    )
    if path.suffix == ".json":
        with path.open("w") as file:
            for number, (url, caption) in enumerate(named):
                file.write("[" if number == 0 else ",")
                json.dump({"url": url, "caption": caption}, file)
            file.write("]")
        return
    schema = pa.schema([("URL", pa.string()), ("TEXT", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(0, rows, 100_000):
            part = [next(named) for _ in range(100_000)]
            writer.write_table(pa.table({"URL": [u for u, _ in part], "TEXT": [c for _, c in part]}, schema))


def read_all(path: Path) -> None:
    """Read a list to its end; prints rows, seconds and the peak of this process's memory in MiB."""
    begun = time.perf_counter()
    rows = sum(isinstance(row, Address) for row in read_rows(path))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([rows, time.perf_counter() - begun, peak]))


def memory(folder: Path, sizes: list[int]) -> None:
    """A row for each form and size of list."""
    print("| list | rows | rows/s | peak memory |\n|-|-|-|-|")
    for extension in ("json", "parquet"):
        for size in sizes:
            path = folder / f"list.{extension}"
            list_of(path, size)
            command = [sys.executable, __file__, "--read", str(path)]
            rows, seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            print(f"| {extension} | {rows:,} | {rows / seconds:,.0f} | {peak:,.0f} MiB |", flush=True)
            path.unlink()


def urls(port: int, count: int) -> list[tuple[str, str | None]]:
    """URLs with the reason that each becomes, None for a picture."""
    kinds, found = list(BECOMES.items()), []
    for number in range(count):
        kind, reason = kinds[number // FAULTS_EACH % len(kinds)]
        faulty = number % FAULTS_EACH == FAULTS_EACH // 2
        path = f"fault/{kind}/{number}.jpg" if faulty else f"good/{number % PICTURES}.jpg"
        found.append((f"http://127.0.0.1:{port}/{path}", reason if faulty else None))
    return found


def download(source: str, target: str) -> None:
    """Ingest the list; what a killed run left is used."""
    settings = Ingest(samples_per_shard=500, datasets={}, download=SETTINGS)
    with open_pool() as pool:
        described = Source(source=source, kind="urls", origin="web", role="train")
        ingest_dataset(described, Path(target), settings, pool=pool)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"| peak memory of a process | {peak / 1024:,.0f} MiB |")


def timed(folder: Path, port: int, count: int) -> None:
    """Download everything twice: undisturbed, and killed in the middle and started again."""
    wanted = urls(port, count)
    listed = folder / "urls.json"
    listed.write_text(
        json.dumps([{"url": url, "caption": f"picture {n}"} for n, (url, _) in enumerate(wanted)])
    )
    reasons = Counter(reason for _, reason in wanted if reason)
    command = [sys.executable, __file__, "--download", str(listed)]
    print(
        f"\n| {count:,} URLs, {sum(reasons.values()):,} of them faults of {len(BECOMES)} kinds | |\n|-|-|",
        flush=True,
    )
    begun = time.perf_counter()
    subprocess.run([*command, str(folder / "one")], check=True)
    seconds = time.perf_counter() - begun
    process = subprocess.Popen([*command, str(folder / "two")], start_new_session=True)
    while len(list((folder / ".two.partial/parts").glob("*.json"))) < count // 500 // 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list((folder / ".two.partial/parts").glob("*.json")))
    subprocess.run([*command, str(folder / "two")], check=True)
    print(f"| images/s, from the list to the finished dataset | {(count - reasons.total()) / seconds:,.0f} |")
    for name in ("one", "two"):
        dataset = PairsDataset.open(folder / name)
        refused = Counter(dataset.manifest.quarantined)
        right = refused == reasons and len(dataset) == count - reasons.total()
        how = "undisturbed" if name == "one" else f"kill -9 after {kept} shards, and again"
        print(f"| {how} | {len(dataset):,} samples, {refused.total():,} refused, all as expected: {right} |")
        if not right:
            print(f"| not as expected | more {dict(refused - reasons)}, fewer {dict(reasons - refused)} |")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--urls", type=int, default=10_000)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--download", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        return read_all(Path(asked.read))
    if asked.download:
        return download(*asked.download)
    folder = Path(tempfile.mkdtemp(prefix="download-"))
    server = None
    try:
        if asked.rows:
            memory(folder, asked.rows)
        port_file = folder / "port"
        command = [sys.executable, "-m", "tests.ingest.download.server", str(port_file)]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # it is cut off on purpose, and says so
        while not port_file.is_file() or not port_file.read_text():
            time.sleep(0.05)
        timed(folder, int(port_file.read_text()), asked.urls)
    finally:
        if server:
            server.kill()
        shutil.rmtree(folder)
    return None


if __name__ == "__main__":
    main()

"""What is left out of a dataset is found in its table a piece at a time, and held in little."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from blip.data.manifest import Manifest, Shard, write_manifest
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.selection import Selection

from .test_loader import loader_of

Make = Callable[..., PairsDataset]
ROOT = Path(__file__).parents[2]
SHARDS, PER_SHARD = 100, 10_000


def test_the_samples_of_a_shard_come_without_those_that_are_left_out(make_dataset: Make) -> None:
    left_out = frozenset({"key-00001", "key-00004", "key-00007", "key-00009", "of no sample"})
    selection = Selection.of(make_dataset(count=10, per_shard=4), left_out)
    assert [selection.count(shard) for shard in range(3)] == [3, 2, 1]
    found = [[sample.key for sample in selection.samples(shard)] for shard in range(3)]
    assert found == [["key-00000", "key-00002", "key-00003"], ["key-00005", "key-00006"], ["key-00008"]]


def test_the_place_in_the_data_is_of_what_is_left_out(make_dataset: Make) -> None:
    dataset = make_dataset(count=12)
    keys = (), ("key-00001",), ("key-00002",), ("key-00001", "of no sample")
    none, one, other, again = (loader_of(dataset, exclude=frozenset(some)).state_dict() for some in keys)
    assert len({state["data"] for state in (none, one, other)}) == 3
    assert one == again


def test_the_keys_are_not_kept(make_dataset: Make) -> None:
    keys = frozenset({"key-00001", "key-00004"})
    loader = loader_of(make_dataset(count=12), exclude=keys)
    there = weakref.ref(keys)
    del keys
    gc.collect()
    assert there() is None and loader.batches_per_epoch == 2


GROWN = """
import re, sys
from pathlib import Path
from blip.data.loader import PairLoader
from blip.data.pairs import PairsDataset
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
dataset = PairsDataset.open(sys.argv[1])
make = lambda *keys: PairLoader([(dataset, frozenset(keys))], batch_size=4, image_size=16, seed=0)
before = make().batches_per_epoch, peak()
made = make("0000123456", "0000123457", "0000123458", "0000123459")
print(peak() - before[1], before[0] - made.batches_per_epoch)
"""


def test_a_million_rows_take_little_memory(tmp_path: Path) -> None:
    """Of keys and shards as Python's strings it would be 150 MB, in every rank."""
    schema = pa.schema([("key", pa.string()), ("shard", pa.string())])
    shards = [Shard(f"shards/{number:05d}.tar", "", PER_SHARD, 1) for number in range(SHARDS)]
    with pq.ParquetWriter(tmp_path / METADATA, schema) as file:
        for number, shard in enumerate(shards):
            keys = [f"{number * PER_SHARD + place:010d}" for place in range(PER_SHARD)]
            file.write_table(pa.table({"key": keys, "shard": [shard.url] * PER_SHARD}, schema))
    write_manifest(Manifest([], {}, shards), tmp_path)
    command = [sys.executable, "-c", GROWN, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    grown_kib, fewer_batches = map(int, ran.stdout.split())
    assert fewer_batches == 1
    assert grown_kib < 40 << 10

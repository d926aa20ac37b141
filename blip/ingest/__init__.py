"""From sources to pairs datasets: readers, downloads, shards, and what must not be near an evaluation picture."""

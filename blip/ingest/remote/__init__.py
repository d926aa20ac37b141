"""Shards that lie in a store or on another host: `s3://bucket/laion`, `sftp://host/laion`, `https://host/00000.tar`.

check(source)                                     # address.py: which stores are read, whose secrets are whose
store = Store.open(source, settings.download)     # store.py: lists shards, fetches one
Reading(sources, directory, settings)             # reading.py: their items in order, the next shards on their way
Ledger(file).place(listed, receipts, comes)       # ledger.py: where a run that was ended goes on

What is promised. A source is its list: names, sizes and the store's tag (ETag, generation, or time of change) of every
shard; none is fetched to see whether it is the same. Who is silent about one is asked as often as `ingest.download`
says, or later if the store asks for that, and cannot be listed then; only those are listed without size and tag that
are gone (404, 410) or refused for good (401, 403), unless all are refused. The dataset is the one
that the same shards give on this disk. At most AHEAD + 2 of them lie in `.target.partial/fetched` at a time, each is
removed when it is read, and a run that was ended fetches none again of which all samples are in finished shards. A
shard that does not come, comes short or comes longer than it was listed is `not_fetched` in the quarantine, is one of
the files of `ingest.max_bad_fraction`, and is asked for again by the run that goes on with a dataset that was not
finished. A finished one stays as it is while the list is the same; with `ingest.download.again` the stage ingest makes
one that lacks shards anew, and fetches all of them. No password and no signature is written anywhere.
"""

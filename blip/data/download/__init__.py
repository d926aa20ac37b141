"""The downloader: pictures of URL lists, fetched shard by shard, and what it must never fetch.

download_shards(jobs, settings)                    # shards.py: all rows of a few shards at once
await Fetcher(settings).fetch(url)                 # fetch.py: one picture, whatever the server does
check_url(url), PublicResolver()                   # address.py: public addresses only
opted_out(tags, agent, words)                      # optout.py: what sites ask for
"""

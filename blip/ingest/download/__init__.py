"""The downloader: pictures of URL lists, fetched shard by shard, and what it must never fetch.

download(jobs, settings, per_shard, pool)          # shards.py: shards, written as their pictures come
fetch_all(rows, settings)                          # stream.py: many rows at a time, results in their order
await fetcher.fetch(url)                           # fetch.py: one picture, tried again where that may help
client.answer(url, limit)                          # client.py: one request with its redirects, a turn at its host
check_host(host), PublicResolver()                 # address.py: public addresses only
opted_out(tags, agent, words), Robots(client)      # optout.py, robots.py: what sites ask for
"""

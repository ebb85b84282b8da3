"""Networks that leave torch, and networks that come from elsewhere.

A segmentor as one function (network) -> a file (formats) that an engine opens (engines), with a
certificate that both give the same (certificate); `write` does it all. `outside` lets `ibnseg test`
measure what an engine or another library runs.
"""

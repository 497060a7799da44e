"""Bytes <-> messages, and nothing else.

Every codec here is sans-I/O: no sockets, no clocks, no gevent, no Locust, no randomness of its own. It is
fed what a socket brought and returns messages; it is given a message and returns bytes. Stream decoders
share one contract, described in `protocols.errors`.
"""

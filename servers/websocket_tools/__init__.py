"""The tool-call server (seed 002): hello, sessions, tools, deduplication, limits. It starts in `__main__`."""

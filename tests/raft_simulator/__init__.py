"""A whole Raft cluster in one thread, with a virtual clock, network and disk that a seed decides.

The cores, the state machine and the peer messages are the real ones; only the shell around them is replaced. The
same seed gives the same run, event by event, so a failure found among thousands of seeds is replayed with one
command::

    python -m tests.raft_simulator --seed 4711

Times are integer microseconds of virtual time.
"""

"""``python -m tests.raft_simulator``: see :mod:`tests.raft_simulator.soak`."""

import sys

from tests.raft_simulator.soak import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m swarmproof.faults.proxy --control PATH`: all links of one supervisor, told what to do over PATH."""

import argparse
import signal
import sys
from pathlib import Path

from swarmproof.faults.proxy.alone import raise_descriptor_limit
from swarmproof.faults.proxy.control_port import ControlPort
from swarmproof.faults.proxy.loop import Loop

EXIT_CANNOT_SERVE = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m swarmproof.faults.proxy", description=__doc__)
    parser.add_argument("--control", type=Path, required=True, metavar="PATH", help="the Unix socket to create")
    arguments = parser.parse_args(argv)
    raise_descriptor_limit()
    loop = Loop()
    loop.stop_on([signal.SIGTERM, signal.SIGINT])
    try:
        port = ControlPort(loop, arguments.control)
    except OSError as error:
        print(f"cannot create {arguments.control}: {error.strerror or error}", file=sys.stderr, flush=True)
        return EXIT_CANNOT_SERVE
    print("links ready", flush=True)
    loop.run()
    port.close()
    loop.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

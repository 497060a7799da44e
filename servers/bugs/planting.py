"""`--bug NAME`: a reference server that breaks one promise on purpose, so that a judge can be tested on it.

Nobody gets one by accident: the option is refused unless the environment says SWARMPROOF_ZOO=1, and a server that
has a bug says so at its start. The healthy server knows nothing of this: a bug is another class in the place of the
right one, chosen before the first connection.
"""

import argparse
import os
from collections.abc import Mapping
from typing import Final, TypeVar

from servers.log_lines import log
from servers.serving import CannotServe

SWITCH: Final = "SWARMPROOF_ZOO"
SWITCHED_ON: Final = "1"

B = TypeVar("B")


def add_bug_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bug",
        metavar="NAME",
        default=None,
        help=f"break one promise on purpose, to test a judge (refused unless {SWITCH}={SWITCHED_ON}; see docs/zoo.md)",
    )


def planted(name: str, bugs: Mapping[str, B], server: str) -> B:
    """What stands in the place of the healthy part. Raises CannotServe without the switch, or for an unknown name."""
    if os.environ.get(SWITCH) != SWITCHED_ON:
        raise CannotServe(
            f"--bug {name} makes this server lie on purpose: set {SWITCH}={SWITCHED_ON} in the environment if you "
            "mean it, or leave the option out"
        )
    if name not in bugs:
        raise CannotServe(f"there is no bug {name!r} for the {server} server; there are: {', '.join(sorted(bugs))}")
    log.warning("bug_planted", server=server, bug=name, consequence="this server breaks a promise on purpose")
    return bugs[name]

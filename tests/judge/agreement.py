"""Compare the judge with the exhaustive reference on many random histories.

python -m tests.judge.agreement --histories 100000 [--seed 1]
"""

import argparse
import random
import sys
import time
from collections import Counter

from records.operations import Operation
from swarmproof.judge.history import read_history
from swarmproof.judge.linearizability import check
from tests.judge.histories import FLAVOURS, Shape, random_history
from tests.judge.reference import is_linearizable

COLUMNS = ("histories", "linearizable", "not linearizable", "by zones", "by versions", "by search")


class Disagreement(AssertionError):
    """The judge and the reference differ; the text holds the history."""


def compare(history: list[Operation], tally: Counter[str] | None = None) -> bool:
    """Whether the history is linearizable, when judge and reference agree. Errors: Disagreement."""
    expected = is_linearizable(history)
    columns = read_history(history)
    result = check(columns)
    if result.unknown:
        raise Disagreement(f"the judge does not know: {result.unknown}\n{show(history)}")
    if bool(result.findings) == expected:
        word = "linearizable" if expected else "not linearizable"
        raise Disagreement(f"the reference says {word}, the judge {result.findings}\n{show(history)}")
    for finding in result.findings.values():
        if not 1 <= len(finding.rows) <= 4:
            raise Disagreement(f"a counterexample of {len(finding.rows)} operations\n{show(history)}")
    if tally is not None:
        tally["linearizable" if expected else "not linearizable"] += 1
        tally["by search" if result.searched else "by versions" if result.by_version else "by zones"] += 1
    return expected


def show(history: list[Operation]) -> str:
    return "\n".join(str(op) for op in sorted(history, key=lambda op: op.call_ns))


def run(histories: int, seed: int) -> dict[str, Counter[str]]:
    """``histories`` random ones over all flavours, small enough for the reference: what was said, by flavour."""
    tallies = {flavour: Counter[str]() for flavour in FLAVOURS}
    for number in range(histories):
        rng = random.Random(seed * 1_000_003 + number)
        shape = Shape(rng.choice([4, 5, 6, 7]), keys=rng.choice([1, 1, 1, 2]), horizon=rng.choice([6, 14, 30]))
        flavour = FLAVOURS[number % len(FLAVOURS)]
        try:
            compare(random_history(rng, flavour, shape), tallies[flavour])
        except Disagreement as error:
            raise Disagreement(f"history {number} of seed {seed} ({flavour}): {error}") from None
        tallies[flavour]["histories"] += 1
    return tallies


def table(tallies: dict[str, Counter[str]]) -> str:
    total = sum(tallies.values(), Counter())
    lines = [f"| kind | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, tally in [*tallies.items(), ("all of them", total)]:
        lines.append(f"| {name} | {' | '.join(f'{tally[column]:,}' for column in COLUMNS)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    try:
        tallies = run(options.histories, options.seed)
    except Disagreement as error:
        print(error)
        return 1
    print(table(tallies))
    print(f"{options.histories:,} histories agree, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

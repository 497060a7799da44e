"""A worker knows its master again, and takes nobody else for it."""

import os
import subprocess
import sys

from swarmproof.fleet.master_watch import MasterWatch, is_here, this_process
from tests.processes import wait_until


def test_a_master_that_ends_is_told_once() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from swarmproof.fleet.master_watch import *; print(this_process()); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    watch = MasterWatch(child.stdout.readline().strip())
    assert not watch.has_died()
    child.stdin.close()  # it ends, and stays a zombie until it is waited for
    wait_until(watch.has_died, "the end to be seen")
    assert not watch.has_died()
    child.stdout.close()
    child.wait()


def test_another_process_of_the_same_number_is_not_the_master() -> None:
    pid, began = this_process().split()
    assert is_here(f"{pid} {began}")
    assert not is_here(f"{pid} {int(began) + 1}")


def test_a_master_on_another_machine_is_never_told_dead() -> None:
    for elsewhere in ("", "nonsense", "1", f"{os.getpid()} 1", "4194303 12345"):
        assert not MasterWatch(elsewhere).has_died()

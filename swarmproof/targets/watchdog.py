"""Run as a script: hold a pipe from the supervisor; when it closes, kill what the supervisor left behind.

    python -I -S watchdog.py < pipe

The supervisor writes JSON lines: ["+group", PGID], ["-group", PGID], ["+path", PATH], ["-path", PATH]. End of file
means that the supervisor is gone, however it went: a SIGKILL closes pipes too. Then every registered process group is
killed (SIGKILL reaches stopped processes as well, and grandchildren that the parent-death signal does not know), and
every registered path is removed. A supervisor that ended well has taken everything back before; nothing is to do.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time

GONE_WITHIN_S = 2.0  # a group that forks while it is killed is killed again until this much has passed
AGAIN_AFTER_S = 0.02


def kill_groups(groups: set[int]) -> None:
    """Kill every group until the kernel knows none of them, or GONE_WITHIN_S has passed."""
    deadline = time.monotonic() + GONE_WITHIN_S
    left = set(groups)
    while left and time.monotonic() < deadline:
        for group in list(left):
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                left.discard(group)
        if left:
            time.sleep(AGAIN_AFTER_S)


def remove_paths(paths: set[str]) -> None:
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def main() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # only the end of the pipe ends the watch
    groups: set[int] = set()
    paths: set[str] = set()
    for line in sys.stdin:
        try:
            verb, subject = json.loads(line)
        except ValueError:
            continue  # half a line: the writer died inside it
        if verb == "+group":
            groups.add(subject)
        elif verb == "-group":
            groups.discard(subject)
        elif verb == "+path":
            paths.add(subject)
        elif verb == "-path":
            paths.discard(subject)
    kill_groups(groups)
    remove_paths(paths)


if __name__ == "__main__":
    main()

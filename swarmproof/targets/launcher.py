"""Run as a script: bind this process's life to its parent's, then become the command.

    python -I -S launcher.py PARENT_PID COMMAND [ARGUMENT ...]

On Linux the kernel sends SIGKILL when the parent thread dies (prctl(2), PR_SET_PDEATHSIG; it survives execve(2)).
The parent may have died before the call, so its pid is compared afterwards: an orphan is adopted by another process.
Elsewhere this only execs, and the watchdog alone cleans up. Nothing but the standard library is imported: it must
start fast.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
EXIT_NOT_FOUND = 127  # what a shell says for a command that it could not start


def main() -> None:
    parent_pid = int(sys.argv[1])
    command = sys.argv[2:]
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
    # Python ignores these; an ignored signal survives exec, and the command expects the defaults.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(EXIT_NOT_FOUND)


if __name__ == "__main__":
    main()

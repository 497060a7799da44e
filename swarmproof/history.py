"""The supervisor's own operations in the history: its probe writes and its final reads, beside those of the users.

Its threads share one file, so every call is under one lock.
"""

import threading

from protocols.kv import CAS_FAILED, NOT_FOUND, OK, KvReply, KvRequest
from records.operations import FAIL, INFO, OperationLog
from records.operations import OK as ANSWERED
from records.run_directory import RunDirectory

PROCESS = "supervisor"
# Client numbers of users start at 0; these stand far away from them.
PROBE_CLIENT = 1_000_000_000
FINAL_READ_CLIENT = 1_000_001_000  # plus the node's number


class SupervisorHistory:
    """invoke / complete for KvRequest and KvReply; safe from several threads."""

    def __init__(self, run: RunDirectory) -> None:
        self._lock = threading.Lock()
        self._log = OperationLog(run.operations_dir / f"{PROCESS}.msgpack", PROCESS)

    def invoke(self, client: int, request: KvRequest, *, node: int | None = None, final: bool = False) -> int:
        """Record that `request` is about to be sent; gives the operation's id."""
        with self._lock:
            return self._log.invoke(
                client, request.op, request.key, request.value, request.expect, node=node, final=final
            )

    def complete(self, identity: int, reply: KvReply | None, *, node: int | None = None, attempts: int = 1) -> None:
        """Record the outcome; None = no definite answer."""
        with self._lock:
            if reply is None:
                self._log.complete(identity, INFO, node=node, attempts=attempts)
            elif reply.result in (OK, NOT_FOUND, CAS_FAILED):
                out = reply.value if reply.result != NOT_FOUND else None
                self._log.complete(identity, ANSWERED, out=out, version=reply.version, node=node, attempts=attempts)
            else:
                # A read that was refused has changed nothing; the supervisor writes only through retried sessions.
                self._log.complete(identity, FAIL, node=node, attempts=attempts, error=reply.result)

    def flush(self) -> None:
        with self._lock:
            self._log.flush()

    def close(self) -> None:
        with self._lock:
            self._log.close()

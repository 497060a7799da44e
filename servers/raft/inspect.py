"""`python -m servers.raft.inspect DIR`: what is in a node's data directory, for people. Changes nothing."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from protocols.errors import RemoteProtocolError
from protocols.kv import Value, decode_request
from servers.raft.disk_records import LogCorrupt
from servers.raft.file_system import RealFiles
from servers.raft.recovery import Recovered, WrongDirectory, recover
from servers.raft.state_machine import KvStateMachine, SnapshotUnreadable
from servers.raft.types import Entry

EXIT_UNREADABLE = 3
DEFAULT_ENTRIES = 10
# A value longer than this is cut: the line is for the eye.
MAX_SHOWN = 40


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers.raft.inspect",
        description="Print the log and the snapshot in a Raft node's data directory.",
        epilog="example:  python -m servers.raft.inspect data/n1 --entries 50",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="the node's --data-dir")
    parser.add_argument(
        "--entries", type=int, default=DEFAULT_ENTRIES, metavar="N", help="show the last N entries (default 10)"
    )
    parser.add_argument("--keys", action="store_true", help="show every key, as if all entries were committed")
    arguments = parser.parse_args(argv)
    try:
        for line in describe(arguments.directory, arguments.entries, arguments.keys):
            print(line)
    except (LogCorrupt, WrongDirectory, SnapshotUnreadable) as error:
        print(error, file=sys.stderr)
        return EXIT_UNREADABLE
    except BrokenPipeError:
        sys.stderr.close()  # the reader has seen enough
    except OSError as error:
        print(f"cannot read {arguments.directory}: {error.strerror}", file=sys.stderr)
        return EXIT_UNREADABLE
    return 0


def describe(directory: Path, entries: int = DEFAULT_ENTRIES, keys: bool = False) -> Iterator[str]:
    """The lines that `main` prints. Raises LogCorrupt, WrongDirectory, SnapshotUnreadable, OSError."""
    found = recover(RealFiles(), directory)
    yield f"directory  {directory}"
    if found.identity is None:
        yield "empty      no node has used it yet"
        return
    term, vote = found.hard_state
    yield f"belongs to {found.identity}"
    yield f"term       {term}, {f'voted for n{vote}' if vote else 'no vote'}"
    machine = KvStateMachine()
    yield from _snapshot_lines(found, machine)
    yield from _log_lines(found)
    after = found.entries_after_snapshot()
    shown = after[-entries:] if entries > 0 else []
    if shown:
        yield f"entries    the last {len(shown)} of {len(after)} behind the snapshot"
        for entry in shown:
            yield f"  {entry.index:>10}  term {entry.term}  {describe_entry(entry)}"
    if keys:
        for entry in after:
            machine.apply(entry)
        yield f"keys       {machine.keys}, as if all entries up to {machine.applied_index} were committed"
        for key, value, version in sorted(machine.items()):
            yield f"  {key} = {_shown(value)}  (version {version})"


def describe_entry(entry: Entry) -> str:
    """One entry in words: `put k = "v"  client 7 seq 1`."""
    if not entry.data:
        return "no-op of a new leader"
    try:
        request = decode_request(entry.data)
    except RemoteProtocolError as error:
        return f"{len(entry.data)} bytes that are no request ({error.reason})"
    text = f"{request.op} {request.key}"
    if request.value is not None:
        text += f" = {_shown(request.value)}"
    if request.op == "cas":
        text += f" if {_shown(request.expect)}"
    if request.client_id is not None:
        text += f"  client {request.client_id} seq {request.seq}"
    return text


def _snapshot_lines(found: Recovered, machine: KvStateMachine) -> Iterator[str]:
    snapshot = found.snapshot
    if snapshot is None:
        yield "snapshot   none"
        return
    machine.restore(snapshot.data)
    yield (
        f"snapshot   up to entry {snapshot.index} of term {snapshot.term}: {machine.keys} keys,"
        f" {machine.sessions} sessions, {len(snapshot.data):,} bytes, digest {machine.digest()[:16]}"
    )
    if found.snapshot_is_ahead:
        yield "           it replaces the log (a crash came before the log was voided); the next start does that"


def _log_lines(found: Recovered) -> Iterator[str]:
    size_bytes = sum(segment.size_bytes for segment in found.segments)
    held = f"entries {found.base_index + 1} to {found.last_index}" if found.entries else "no entries"
    yield f"log        {len(found.segments)} segments, {size_bytes:,} bytes, {held}, last term {found.last_term}"
    for segment in found.segments:
        yield f"  {segment.path.name}  {segment.size_bytes:>12,} bytes  up to entry {segment.max_index}"
        if segment.torn_bytes:
            yield (
                f"    and {segment.torn_bytes:,} bytes of a write that was cut short:"
                " never acknowledged, removed at the next start"
            )
    for path in found.stale_files:
        yield f"  {path.name}  left over, removed at the next start"


def _shown(value: Value | None) -> str:
    if value is None:
        return "absent"
    text = repr(value[:MAX_SHOWN])
    return text if len(value) <= MAX_SHOWN else f"{text}... ({len(value):,} long)"


if __name__ == "__main__":
    sys.exit(main())

"""A Raft node's command line, and the sentences for what can be wrong with it."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from protocols.raft_messages import MAX_CLUSTER_ID_BYTES, MAX_INTEGER
from servers.arguments import (
    MAX_PORT,
    add_metrics_port,
    count,
    milliseconds,
    port_number,
    seconds,
    server_parser,
)
from servers.bugs.planting import add_bug_option
from servers.serving import CannotServe

DEFAULT_PORT = 9001  # shared/wire-formats: client ports 9001, 9002, 9003 ...
PEER_PORT_OFFSET = 100  # ... and peer ports 9101, 9102, 9103
DEFAULT_ELECTION_MS = (300.0, 600.0)
DEFAULT_HEARTBEAT_MS = 50.0
TICKS_PER_HEARTBEAT = 5
DEFAULT_SNAPSHOT_ENTRIES = 50_000
DEFAULT_MAX_CLIENTS = 10_000
# Clients of a store may have nothing to ask for a while; five minutes tell a forgotten connection from a quiet one.
DEFAULT_IDLE_TIMEOUT_S = 300.0
MIN_SECRET_BYTES = 16
MAX_MEMBERS = 9  # more than the 3 and 5 it is made for; each member costs the leader a copy of every write

EXAMPLE = """python -m servers.raft --id 1 --port 9001 --peer-port 9101 --cluster-id demo --secret-file secret \\
      --peers 1=127.0.0.1:9101,2=127.0.0.1:9102,3=127.0.0.1:9103 \\
      --clients 1=127.0.0.1:9001,2=127.0.0.1:9002,3=127.0.0.1:9003 --data-dir data/n1
  python -m servers.raft --port 9001        a cluster of one node, its data gone when it ends"""

Addresses = dict[int, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line, checked. Addresses are by node; a cluster of one has only itself in `peers`."""

    node_id: int
    host: str
    port: int
    peer_port: int | None  # None: a cluster of one has no peer port
    peers: Addresses
    clients: Addresses
    data_dir: Path | None  # None: temporary
    cluster_id: str
    secret: bytes
    election_ms: tuple[float, float]
    heartbeat_ms: float
    snapshot_entries: int
    fsync: bool
    metrics_port: int | None
    max_clients: int
    idle_timeout_s: float
    write_timeout_s: float
    request_timeout_s: float
    log_level: str
    disk_faults: Path | None  # None: the disk does what it does
    bug: str | None = None  # servers/bugs

    @property
    def tick_s(self) -> float:
        return self.heartbeat_ms / 1000 / TICKS_PER_HEARTBEAT

    @property
    def election_ticks(self) -> tuple[int, int]:
        shortest, longest = (round(ms / 1000 / self.tick_s) for ms in self.election_ms)
        return shortest, longest


def parse_arguments(argv: list[str] | None) -> Arguments:
    """Raises SystemExit(2) for what argparse sees, CannotServe for what only makes no sense together."""
    parsed = _parser().parse_args(argv)
    peers: Addresses = parsed.peers or {}
    clients: Addresses = parsed.clients or {}
    secret = b""
    if len(peers) > 1 or parsed.id is not None:
        _check_cluster(parsed, peers, clients)
        if len(peers) > 1:
            secret = _read_secret(parsed.secret_file)
    node_id = parsed.id or 1
    port = parsed.port if parsed.port is not None else clients.get(node_id, ("", DEFAULT_PORT))[1]
    peer_port = None
    if len(peers) > 1:
        peer_port = parsed.peer_port if parsed.peer_port is not None else peers[node_id][1]
    least, most = parsed.election_ms
    if least <= 2 * parsed.heartbeat_ms:
        raise CannotServe(
            f"--election-ms {least:g}-{most:g} is too short for --heartbeat-ms {parsed.heartbeat_ms:g}: "
            "followers must miss more than two heartbeats before they campaign"
        )
    return Arguments(
        node_id=node_id,
        host=parsed.host,
        port=port,
        peer_port=peer_port,
        peers=peers or {node_id: (parsed.host, 0)},
        clients=clients,
        data_dir=parsed.data_dir,
        cluster_id=parsed.cluster_id,
        secret=secret,
        election_ms=parsed.election_ms,
        heartbeat_ms=parsed.heartbeat_ms,
        snapshot_entries=parsed.snapshot_entries,
        fsync=not parsed.no_fsync,
        metrics_port=parsed.metrics_port,
        max_clients=parsed.max_clients,
        idle_timeout_s=parsed.idle_timeout,
        write_timeout_s=parsed.write_timeout,
        request_timeout_s=parsed.request_timeout,
        log_level=parsed.log_level,
        disk_faults=parsed.disk_faults,
        bug=parsed.bug,
    )


def _parser() -> argparse.ArgumentParser:
    parser = server_parser("raft", "One node of a Raft cluster that keeps keys and values.", EXAMPLE, DEFAULT_PORT)
    parser.set_defaults(port=None)
    cluster = parser.add_argument_group("cluster (without --id and --peers: a cluster of one)")
    cluster.add_argument("--id", type=node_number, metavar="N", help="this node's number")
    cluster.add_argument("--peer-port", type=port_number, metavar="PORT", help="port for peers (default: from --peers)")
    cluster.add_argument(
        "--peers",
        type=addresses,
        metavar="N=HOST:PORT,...",
        help="peer addresses of all nodes, as this node dials them",
    )
    cluster.add_argument(
        "--clients", type=addresses, metavar="N=HOST:PORT,...", help="client addresses of all nodes, told to clients"
    )
    cluster.add_argument("--cluster-id", type=cluster_name, default="swarmproof", metavar="NAME", help="its name")
    cluster.add_argument(
        "--secret-file", type=Path, metavar="FILE", help=f"what all nodes share, at least {MIN_SECRET_BYTES} bytes"
    )
    storage = parser.add_argument_group("storage")
    storage.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="this node's data (default: temporary, removed at the end)"
    )
    storage.add_argument(
        "--snapshot-entries",
        type=count,
        default=DEFAULT_SNAPSHOT_ENTRIES,
        metavar="N",
        help="writes between two snapshots",
    )
    storage.add_argument(
        "--no-fsync", action="store_true", help="acknowledge before data is durable: loses writes, only for measuring"
    )
    storage.add_argument(
        "--disk-faults",
        type=Path,
        metavar="FILE",
        help="for experiments: while FILE holds `full`, `eio` or `slow SECONDS`, the disk behaves like that",
    )
    timing = parser.add_argument_group("timing")
    timing.add_argument(
        "--election-ms",
        type=milliseconds_range,
        default=DEFAULT_ELECTION_MS,
        metavar="MIN-MAX",
        help="silence of the leader before an election, random in this range (default: 300-600)",
    )
    timing.add_argument("--heartbeat-ms", type=heartbeat, default=DEFAULT_HEARTBEAT_MS, metavar="MS", help="heartbeat")
    timing.add_argument(
        "--request-timeout",
        type=seconds,
        default=5.0,
        metavar="S",
        help="answer UNKNOWN to a write that is not committed after S seconds",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-clients", type=count, default=DEFAULT_MAX_CLIENTS, metavar="N", help="client connections"
    )
    limits.add_argument(
        "--idle-timeout", type=seconds, default=DEFAULT_IDLE_TIMEOUT_S, metavar="S", help="close a silent client"
    )
    limits.add_argument(
        "--write-timeout", type=seconds, default=5.0, metavar="S", help="close a client that takes no reply"
    )
    add_metrics_port(parser)
    add_bug_option(parser)
    return parser


def node_number(text: str) -> int:
    """`1` or `n1`."""
    digits = text.removeprefix("n")
    if not digits.isdecimal() or not 0 < int(digits) <= MAX_INTEGER:
        raise argparse.ArgumentTypeError(f"{text!r}: a node is a whole number from 1, such as 1 or n1")
    return int(digits)


def addresses(text: str) -> Addresses:
    """`1=127.0.0.1:9101,2=[::1]:9102`"""
    found: Addresses = {}
    for part in text.split(","):
        name, equals, address = part.strip().partition("=")
        host, colon, port = address.rpartition(":")
        if not equals or not colon or not host or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
            raise argparse.ArgumentTypeError(f"{part!r}: write N=HOST:PORT, such as 1=127.0.0.1:9101")
        number = node_number(name)
        if number in found:
            raise argparse.ArgumentTypeError(f"node {number} is given twice")
        found[number] = (host.strip("[]"), int(port))
    if len(found) > MAX_MEMBERS:
        raise argparse.ArgumentTypeError(f"{len(found)} nodes: at most {MAX_MEMBERS}, 3 or 5 are usual")
    return found


def milliseconds_range(text: str) -> tuple[float, float]:
    """`300-600`"""
    least, dash, most = text.partition("-")
    if not dash:
        raise argparse.ArgumentTypeError(f"{text!r}: write MIN-MAX in milliseconds, such as 300-600")
    range_ms = milliseconds(least), milliseconds(most)
    if not 0 < range_ms[0] <= range_ms[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: the first number must be above 0 and not above the second")
    return range_ms


def heartbeat(text: str) -> float:
    value = milliseconds(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give at least 1 ms, 50 is usual")
    return value


def cluster_name(text: str) -> str:
    if not 0 < len(text.encode("utf-8", "replace")) <= MAX_CLUSTER_ID_BYTES or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r}: a name of 1 to {MAX_CLUSTER_ID_BYTES} printable bytes")
    return text


def _check_cluster(parsed: argparse.Namespace, peers: Addresses, clients: Addresses) -> None:
    if parsed.id is None:
        raise CannotServe("--peers is given but not --id: say which of them this node is, such as --id 1")
    if not peers:
        return  # a cluster of one with a number of its own
    if parsed.id not in peers:
        raise CannotServe(f"--id {parsed.id} is not among --peers ({', '.join(map(str, sorted(peers)))})")
    if len(peers) == 1:
        return
    if set(clients) != set(peers):
        raise CannotServe("--clients must name the client address of the same nodes as --peers")


def _read_secret(path: Path | None) -> bytes:
    if path is None:
        raise CannotServe("a cluster needs --secret-file: a file with the same random text for all of its nodes")
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise CannotServe(f"cannot read --secret-file {path}: {error.strerror}") from error
    if len(secret) < MIN_SECRET_BYTES:
        raise CannotServe(f"--secret-file {path} holds fewer than {MIN_SECRET_BYTES} bytes: use a longer secret")
    return secret

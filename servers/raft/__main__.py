"""`python -m servers.raft`: one node of a Raft cluster."""

import socket
import tempfile
from pathlib import Path
from typing import Any

from protocols.envelope import SERVER_AT_CAPACITY, EnvelopeCodec, MsgType
from servers.connection_group import ConnectionGroup, Limits
from servers.log_lines import log
from servers.metrics import metrics_door
from servers.raft.client_port import ClientConnection
from servers.raft.disk_faults import FaultyFiles
from servers.raft.file_system import RealFiles
from servers.raft.log import DirectoryInUse, DiskFailed, DurableLog, LogCorrupt, WrongDirectory
from servers.raft.node import NodeOptions, RaftNode
from servers.raft.node_metrics import NodeMetrics
from servers.raft.options import TICKS_PER_HEARTBEAT, Arguments, parse_arguments
from servers.raft.peers import Membership, PeerConnection, PeerLink
from servers.raft.state_machine import SnapshotUnreadable
from servers.raft.types import CoreConfig, InvariantBroken
from servers.serving import Acceptor, CannotServe, address_text, listen, run, serve_until_stopped

# Every peer dials once; a few more for those that come back before their old connection is seen to be gone.
MAX_PEER_CONNECTIONS = 64
PEER_HANDSHAKE_S = 5.0


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    log.set_level(arguments.log_level)
    if arguments.data_dir is not None:
        return serve(arguments, arguments.data_dir)
    with tempfile.TemporaryDirectory(prefix="swarmproof-raft-") as directory:
        return serve(arguments, Path(directory))


def serve(arguments: Arguments, directory: Path) -> int:
    """Run the node until SIGTERM. Raises CannotServe."""
    client_socket = listen(arguments.host, arguments.port)
    peer_socket = listen(arguments.host, arguments.peer_port) if arguments.peer_port is not None else None
    metrics = NodeMetrics()
    node = open_node(arguments, directory, client_socket, metrics)
    metrics.watch(node)
    if arguments.metrics_port is not None:
        metrics_door(arguments.host, arguments.metrics_port, metrics.registry)

    def connect_client(group: ConnectionGroup, sock: socket.socket, address: Any) -> ClientConnection:
        return node.client_class(group, sock, address, node)

    clients = ConnectionGroup(
        Limits(arguments.max_clients, arguments.idle_timeout_s, arguments.write_timeout_s),
        connect_client,
        EnvelopeCodec().encode(0, SERVER_AT_CAPACITY, MsgType.ERROR),
    )
    acceptors = [Acceptor(client_socket, clients.accept)]
    groups = [clients]
    if peer_socket is not None:
        membership = Membership(arguments.node_id, tuple(arguments.peers), arguments.cluster_id, arguments.secret)

        def connect_peer(group: ConnectionGroup, sock: socket.socket, address: Any) -> PeerConnection:
            return PeerConnection(group, sock, address, membership, node.on_message)

        peers = ConnectionGroup(Limits(MAX_PEER_CONNECTIONS, PEER_HANDSHAKE_S), connect_peer)
        acceptors.append(Acceptor(peer_socket, peers.accept))
        groups.append(peers)
        log.info("peer_port", address=address_text(peer_socket.getsockname()))
        for peer, address in arguments.peers.items():
            if peer != arguments.node_id:
                node.links[peer] = PeerLink(membership, peer, address, node.on_broken_link)

    def drain() -> None:
        node.hand_over()
        clients.drain()

    node.start()
    try:
        return serve_until_stopped("raft", acceptors, drain=drain)
    finally:
        node.stop()
        for group in groups:
            group.abort_all()


def open_node(arguments: Arguments, directory: Path, client_socket: socket.socket, metrics: NodeMetrics) -> RaftNode:
    """The node as its disk remembers it. Raises CannotServe in words for whatever is wrong with the directory."""
    node_class = RaftNode if arguments.bug is None else _node_with(arguments.bug)
    if not arguments.fsync:
        log.warning("no_fsync", consequence="acknowledged writes are lost when the machine stops")
    files = RealFiles(fsync=arguments.fsync)
    if arguments.disk_faults is not None:
        files = FaultyFiles(arguments.disk_faults, fsync=arguments.fsync)
    try:
        opened = DurableLog.open(directory, arguments.node_id, arguments.cluster_id, files=files)
    except (DirectoryInUse, WrongDirectory, LogCorrupt) as error:
        raise CannotServe(str(error)) from error
    except DiskFailed as error:
        raise CannotServe(f"cannot use the data directory {directory}: {error.reason}") from error
    _, hard_state, snapshot, entries = opened
    log.info(
        "recovered",
        node=f"n{arguments.node_id}",
        term=hard_state.term,
        snapshot_index=snapshot.index if snapshot is not None else 0,
        entries=len(entries),
    )
    own = client_socket.getsockname()
    clients = {node_id: address_text(address) for node_id, address in arguments.clients.items()}
    clients.setdefault(arguments.node_id, address_text(own))
    election_min, election_max = arguments.election_ticks
    config = CoreConfig(
        node_id=arguments.node_id,
        members=tuple(sorted(arguments.peers)),
        election_ticks_min=election_min,
        election_ticks_max=election_max,
        heartbeat_ticks=TICKS_PER_HEARTBEAT,
    )
    options = NodeOptions(
        node_id=arguments.node_id,
        clients=clients,
        tick_s=arguments.tick_s,
        snapshot_entries=arguments.snapshot_entries,
        request_timeout_s=arguments.request_timeout_s,
    )
    try:
        return node_class(options, config, opened, observe_sync_s=metrics.observe_sync_s)
    except (SnapshotUnreadable, InvariantBroken) as error:
        raise CannotServe(f"the data directory {directory} cannot be used: {error}") from error


def _node_with(bug: str) -> type[RaftNode]:
    from servers.bugs.planting import planted
    from servers.bugs.raft import BUGS

    return planted(bug, BUGS, "raft")


if __name__ == "__main__":
    run(main)

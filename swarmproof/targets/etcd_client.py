"""The supervisor's connection to one etcd member: KvConnection on the codec of the JSON gateway.

What a member calls its raftTerm is the term of the last entry that it applied. A new leader therefore claims its
predecessor's term until its own first entry is through: who waits for a new leader should wait for a higher term.
"""

from collections.abc import Callable, Iterator, Sequence

from protocols.etcd import EtcdCodec
from protocols.host import format_address
from protocols.kv import KvReply, KvRequest
from swarmproof.targets.kv_client import KvConnection

# etcd answers one connection's requests one after the other: a few under way hide the round trip.
HTTP_PIPELINE_DEPTH = 8


class EtcdConnection(KvConnection):
    """One keep-alive connection to one member."""

    def call_many(
        self,
        requests: Sequence[KvRequest],
        *,
        depth: int = HTTP_PIPELINE_DEPTH,
        timeout_s: float | None = None,
        on_send: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, KvReply]]:
        return super().call_many(requests, depth=depth, timeout_s=timeout_s, on_send=on_send)

    def _new_codec(self) -> EtcdCodec:
        return EtcdCodec(format_address(self.host, self.port))

    def _send_more(self) -> None:
        data = self._codec.data_to_send()
        if data and self._socket is not None:
            self._socket.sendall(data)

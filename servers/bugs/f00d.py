"""Devices that acknowledge what they should not."""

import random
from collections.abc import Mapping
from typing import Final

from protocols.f00d import RAW_ACK, Packet, encode_ack
from servers.f00d.device import DeviceConnection

# One packet in so many is acknowledged wrongly.
EVERY: Final = 100


class AckNeverSent(DeviceConnection):
    """A second acknowledgement, of a packet that nobody sent."""

    __slots__ = ()

    def _acknowledgement(self, packet: Packet) -> bytes:
        ack = super()._acknowledgement(packet)
        if self.device.received % EVERY:
            return ack
        return ack + (encode_ack(f"{random.getrandbits(64):016x}") if self.device.framed_ack else RAW_ACK)


class AckOfAnother(DeviceConnection):
    """The packet before this one is acknowledged again, this one is not."""

    __slots__ = ("_last_msg_id",)

    def __init__(self, *arguments: object) -> None:
        self._last_msg_id = ""
        super().__init__(*arguments)  # type: ignore[arg-type]

    def _acknowledgement(self, packet: Packet) -> bytes:
        wrong = self._last_msg_id and self.device.received % EVERY == 0
        ack = encode_ack(self._last_msg_id) if wrong else super()._acknowledgement(packet)
        self._last_msg_id = packet.msg_id
        return ack


BUGS: Final[Mapping[str, type[DeviceConnection]]] = {
    "ack-never-sent": AckNeverSent,
    "ack-of-another": AckOfAnother,
}

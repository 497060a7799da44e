"""A protocol of one's own in the engine: the codec and the user's `check`, nothing foretold."""

from users.engine.exchange import Exchange, Request


class FramedExchange(Exchange):
    """Sends what the user's `next_payload` gives, under the user's `request_name`."""

    __slots__ = ()

    def next_request(self, intended_ns: int) -> Request:
        user = self.client.user
        payload = user.next_payload()
        length = len(payload) if isinstance(payload, (bytes, str)) else 0
        return Request(user.request_name, payload, length, intended_ns)

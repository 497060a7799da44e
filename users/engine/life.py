"""A user in engine mode: it opens connections, hands them to the engine, and sleeps.

The user's greenlet connects (dialling and handshakes wait for the network, which greenlets do well), then sleeps
until the connection is gone, and connects again. Its tasks are not run: what is sent is the exchange's.
"""

from typing import Any

from users.engine.exchange import Exchange
from users.engine.loop import engine_of_this_thread
from users.engine.turns import turns_of


def new_exchange(user: Any, exchange_class: type[Exchange]) -> Exchange:
    """The exchange of a user, in place of its client's connection."""
    engine = engine_of_this_thread()
    exchange = exchange_class(engine, user.client, user.depth, turns_of(engine, user))
    user.client.connection = exchange
    return exchange


def live(exchange: Exchange) -> None:
    """Until the user is stopped: GreenletExit from outside, or `exchange.finish()` and all is answered."""
    try:
        exchange.begin()
        while not exchange.finished.is_set():
            if exchange.wanted.is_set():
                exchange.connect()
            exchange.wait_until_gone()
    finally:
        exchange.cancel_all()

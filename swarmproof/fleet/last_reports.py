"""The workers' last reports: heard to the end, however many there are.

Locust's master tells its workers to quit and listens for half a second more. That is little for a hundred of them,
or for one whose records have a megabyte to go; what comes later stays in the socket. Here the rest of it is read,
until every worker that was alive has said that it quits.
"""

import logging
import time
from typing import Any, Final

import gevent
from locust.exception import RPCError
from locust.runners import STATE_MISSING

logger = logging.getLogger(__name__)

#: Nothing for so long, and whoever is still to report does not.
SILENCE_S: Final = 3.0
#: Together, however much comes.
WITHIN_S: Final = 60.0


def hear_out(runner: Any) -> None:
    """To be called on a master when it quits: tell the workers, and hear what they still have to say."""
    if len(runner.greenlet):  # not headless to its end, but stopped by a signal: nobody has told the workers yet
        runner.quit()
    waited_for = {client.id for client in runner.clients.all if client.state != STATE_MISSING}
    silence_s = SILENCE_S + (runner.environment.stop_timeout or 0.0)
    deadline = time.monotonic() + WITHIN_S + silence_s
    while waited_for and time.monotonic() < deadline:
        try:
            with gevent.Timeout(silence_s, TimeoutError("nothing came")):
                client_id, message = runner.server.recv_from_client()
        except TimeoutError:
            logger.warning("%d workers have not sent their last report", len(waited_for))
            return
        except RPCError as error:
            logger.warning("a last report could not be read: %s", error)
            continue
        if message.type == "stats":
            runner.environment.events.worker_report.fire(client_id=client_id, data=message.data)
        elif message.type == "quit":
            waited_for.discard(client_id)

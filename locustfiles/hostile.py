"""Hostile users beside good ones, on three servers at once: the good ones must see no failure.

    locust -f locustfiles/hostile.py --headless -u 40 -t 60s --envelope-host tcp://127.0.0.1:9000 \\
        --f00d-host tcp://127.0.0.1:9500 --echo-host ws://127.0.0.1:8080

Every second user is hostile and goes through all attacks in turn; `--patience` is what the servers have to end a
silent connection (their idle timeout and some room), so give short runs servers with short timeouts.
"""

from locust import between, constant, task

from locustfiles import envelope, f00d, websocket_echo
from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users import options
from users.hostile import HostileEnvelopeUser, HostileF00DUser, HostileWebSocketUser

# The good users think a little: they are here to be disturbed, not to saturate the machine.
THINK_TIME = between(0.002, 0.008)

options.offer_host("envelope", "tcp://127.0.0.1:9000", "envelope server")
options.offer_host("f00d", "tcp://127.0.0.1:9500", "F00D device")
options.offer_host("echo", "ws://127.0.0.1:8080", "WebSocket echo server")


class GoodEnvelope(envelope.Echo):
    host_option = "envelope_host"
    wait_time = THINK_TIME
    weight = 2


class GoodF00D(f00d.Device):
    host_option = "f00d_host"
    wait_time = THINK_TIME
    weight = 1


class GoodWebSocketEcho(websocket_echo.WebSocketEcho):
    host_option = "echo_host"
    wait_time = THINK_TIME
    weight = 1


class BadEnvelope(HostileEnvelopeUser):
    host_option = "envelope_host"
    wait_time = constant(0)
    weight = 2

    @task
    def attack(self) -> None:
        self.attack_next()


class BadF00D(HostileF00DUser):
    host_option = "f00d_host"
    wait_time = constant(0)
    weight = 1

    @task
    def attack(self) -> None:
        self.attack_next()


class BadWebSocket(HostileWebSocketUser):
    host_option = "echo_host"
    wait_time = constant(0)
    weight = 1

    @task
    def attack(self) -> None:
        self.attack_next()

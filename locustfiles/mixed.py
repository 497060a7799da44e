"""All five protocols at once, each with a target of its own.

    locust -f locustfiles/mixed.py --headless -u 20 -t 10s --envelope-host tcp://127.0.0.1:9000 \\
        --f00d-host tcp://127.0.0.1:9500 --echo-host ws://127.0.0.1:8080 --rpc-host ws://127.0.0.1:8082 \\
        --kv-host kv://127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003

Of 20 users 4 speak envelope, 2 F00D, 3 WebSocket echo, 3 RPC, and 8 use the Raft store. They think for some
milliseconds between requests, so that the protocols share the generator instead of fighting for it.
"""

from locust import between

from locustfiles import envelope, f00d, raft_kv, websocket_echo, websocket_rpc
from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users import options

# Mean 5 ms: about 200 requests a second for each user, 4,000 for twenty: a third of what one core can do.
THINK_TIME = between(0.002, 0.008)

options.offer_host("envelope", "tcp://127.0.0.1:9000", "envelope server")
options.offer_host("f00d", "tcp://127.0.0.1:9500", "F00D device")
options.offer_host("echo", "ws://127.0.0.1:8080", "WebSocket echo server")
options.offer_host("rpc", "ws://127.0.0.1:8082", "WebSocket RPC server")
options.offer_host("kv", "kv://127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003", "Raft cluster (all its nodes)")


class MixedEnvelope(envelope.Echo):
    host_option = "envelope_host"
    wait_time = THINK_TIME
    weight = 4


class MixedF00D(f00d.Device):
    host_option = "f00d_host"
    wait_time = THINK_TIME
    weight = 2


class MixedWebSocketEcho(websocket_echo.WebSocketEcho):
    host_option = "echo_host"
    wait_time = THINK_TIME
    weight = 3


class MixedWebSocketRpc(websocket_rpc.WebSocketRpc):
    host_option = "rpc_host"
    wait_time = THINK_TIME
    weight = 3


class MixedRaftKv(raft_kv.RaftKv):
    host_option = "kv_host"
    wait_time = THINK_TIME
    weight = 8

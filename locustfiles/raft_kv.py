"""A Raft key-value store under the mix that finds bugs: mostly append and cas, reads at every node.

locust -f locustfiles/raft_kv.py --headless -u 20 -t 10s --host kv://127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003
"""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users.raft_kv import RaftKvUser


class RaftKv(RaftKvUser):
    """One client of the cluster: a connection to each node that it needs, `--depth` operations in flight."""

    wait_time = constant(0)

    @task(8)
    def append(self) -> None:
        self.append_token()

    @task(4)
    def read_append_key(self) -> None:
        self.read_appended()

    @task(6)
    def cas(self) -> None:
        self.cas_register()

    @task(4)
    def read(self) -> None:
        self.read_register()

    @task(2)
    def put(self) -> None:
        self.put_register()

    @task(1)
    def delete(self) -> None:
        self.delete_register()

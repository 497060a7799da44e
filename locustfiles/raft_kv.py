"""A Raft key-value store under the mix that finds bugs: mostly append and cas, reads at every node.

locust -f locustfiles/raft_kv.py --headless -u 20 -t 10s --host kv://127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003

`--mix append=8,get=8,cas=6,put=2,delete=1` chooses another; keys, reads and read-backs have options too (--help).
"""

from typing import Any, ClassVar

from locust import constant

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users import options
from users.kv_mix import DEFAULT_MIX, Operations, parse_mix, tasks_of
from users.raft_kv import RaftKvUser


class RaftKv(RaftKvUser):
    """One client of the cluster: a connection to each node that it needs, `--depth` operations in flight."""

    wait_time = constant(0)
    operations: ClassVar[Operations] = {
        "append": [RaftKvUser.append_token],
        "get": [RaftKvUser.read_appended, RaftKvUser.read_register],
        "cas": [RaftKvUser.cas_register],
        "put": [RaftKvUser.put_register],
        "delete": [RaftKvUser.delete_register],
    }
    tasks = tasks_of(parse_mix(DEFAULT_MIX), operations)

    def configure(self, parsed_options: Any) -> None:
        super().configure(parsed_options)
        mix = options.value(parsed_options, "mix")
        if mix != DEFAULT_MIX:  # a scenario built on this one may have tasks of its own
            self.tasks = tasks_of(parse_mix(mix), self.operations)

"""F00D devices: every user is one device that is toggled again and again.

locust -f locustfiles/f00d.py --headless -u 20 -t 10s --host tcp://127.0.0.1:9000
"""

from locust import constant, task

from swarmproof.fleet import extension  # noqa: F401  (histograms, the run directory, progress)
from users import f00d_report  # noqa: F401  (--f00d-metrics-port, --performance-report)
from users.f00d import F00DUser


class Device(F00DUser):
    """A new connection for each packet, as the original client; see `--f00d-connections` and `--ack`."""

    wait_time = constant(0)

    @task
    def switch(self) -> None:
        self.toggle()

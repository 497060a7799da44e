"""Drives one F00D client without a Locust run and prints what its metrics say, as JSON.

Arguments: port, toggles, attempts, and optionally a device id. With a metrics port as fifth argument the metrics are
served there (`metrics at PORT` is the first line) until stdin ends.
"""

import json
import sys
from argparse import Namespace

from gevent.fileobject import FileObject
from locust.env import Environment  # first: it patches

from users.f00d import F00DUser
from users.f00d_metrics import registry, samples
from users.f00d_report import MetricsServer


class Device(F00DUser):
    pass


port, toggles, attempts = (int(argument) for argument in sys.argv[1:4])
environment = Environment(
    user_classes=[Device], host=f"f00d://127.0.0.1:{port}", parsed_options=Namespace(attempts=attempts)
)
environment.create_local_runner()
samples.collect = True
user = Device(environment)
if len(sys.argv) > 4:
    user.device_id = sys.argv[4]
    user.client = user._make_client(user.target(environment))
if len(sys.argv) > 5:
    print("metrics at", MetricsServer(int(sys.argv[5])).port, flush=True)
outcomes = [user.toggle() for _ in range(toggles)]
user.client.close()
values = {}
for metric in registry.collect():
    for sample in metric.samples:
        if not sample.name.endswith(("_created", "_bucket")):
            labels = [value for name, value in sorted(sample.labels.items()) if name != "device_id"]
            values["|".join([sample.name, *labels])] = sample.value
print(json.dumps({"outcomes": outcomes, "samples": values, "happy_ms": samples.take().kept}), flush=True)
if len(sys.argv) > 5:
    FileObject(sys.stdin.fileno(), "rb").read()  # cooperative: the metrics are served meanwhile

"""Drives one F00D client without a Locust run and prints what its metrics say, as JSON. Arguments: port, toggles."""

import json
import sys
from argparse import Namespace

from locust.env import Environment

from users.f00d import F00DUser
from users.f00d_metrics import registry


class Device(F00DUser):
    pass


port, toggles, attempts = (int(argument) for argument in sys.argv[1:])
environment = Environment(
    user_classes=[Device], host=f"f00d://127.0.0.1:{port}", parsed_options=Namespace(attempts=attempts)
)
environment.create_local_runner()
user = Device(environment)
outcomes = [user.toggle() for _ in range(toggles)]
user.client.close()
samples = {}
for metric in registry.collect():
    for sample in metric.samples:
        if not sample.name.endswith(("_created", "_bucket")):
            labels = [value for name, value in sorted(sample.labels.items()) if name != "device_id"]
            samples["|".join([sample.name, *labels])] = sample.value
print(json.dumps({"outcomes": outcomes, "samples": samples}))

"""Pauses of the load generator that would be measured as the server's: taken before the load begins instead.

- Locust's `Runner.stop` looks at its caller with `inspect.stack()`. The first call in a process resolves the file of
  every module there is, 30 to 100 ms during which no reply is read, while the last requests are still under way. Their
  response times were that much too long. What it finds is kept by `inspect` itself: asked once early, it is quick.
- A full garbage collection visits every object of Locust, Flask and numpy, which live as long as the process: 30 to
  110 ms. They are set aside (`gc.freeze`), so that collections under load only see what the load made.
"""

import gc
import inspect


def take_pauses_now() -> None:
    """Call at the start of each test, before its users exist; takes some 0.1 s."""
    inspect.stack()
    gc.unfreeze()  # of an earlier test of this process
    gc.collect()
    gc.freeze()

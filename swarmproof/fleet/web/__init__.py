"""What swarmproof adds to Locust's web UI: tabs, a page of its own, a login, and what they are made of."""

from swarmproof.fleet.web.routes import attach

__all__ = ["attach"]

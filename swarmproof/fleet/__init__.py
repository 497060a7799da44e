"""The load generators: Locust processes, and the extension that runs inside them."""

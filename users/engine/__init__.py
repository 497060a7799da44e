"""The engine: one greenlet drives all connections of a worker. See `users.engine.loop`."""

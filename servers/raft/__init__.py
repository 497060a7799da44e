"""A Raft cluster in a few small rooms: a sans-I/O core, a durable log, a state machine, and a gevent shell."""

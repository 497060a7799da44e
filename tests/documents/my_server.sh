#!/bin/sh
# The server of one's own in README.md: ./my-server --port 9000
exec python -m servers.envelope "$@"

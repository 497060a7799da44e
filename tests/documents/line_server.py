#!/usr/bin/env python3
"""The line server that docs/your-own-protocol.md speaks of: `7 hello` is answered by `7 HELLO`.

./line-server --port 7000
"""

import socketserver
import sys


class Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[2])), Lines) as server:
        print("listening", flush=True)
        server.serve_forever()

"""Stands in for server.py under a real supervisord: takes the same variables, and shows by its answers what it was
given.

A line "work SECONDS" on its port is answered after so long with "done by N"; SIGTERM closes the port and waits for work
in hand. Its own metrics port answers any HTTP request with its number and process id. Plain threads and no imports of
ours, so that it starts at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

NUMBER = os.environ["XIAOZHI_WORKER"]
GIVEN = {name: value for name, value in os.environ.items() if name.startswith("XIAOZHI")}


class Metrics(BaseHTTPRequestHandler):
    """Who am I, and what was I told."""

    def do_GET(self) -> None:
        """Answer everything alike."""
        body = json.dumps({"worker": NUMBER, "pid": os.getpid(), "given": GIVEN}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def work(client: socket.socket) -> None:
    """One line, one answer."""
    with client:
        line = client.makefile().readline()
        print("at work", flush=True)
        time.sleep(float(line.split()[1]))  # sleep: so long the work takes
        client.sendall(f"done by {NUMBER}\n".encode())


def main() -> None:
    """Serve until SIGTERM."""
    if GIVEN.get("XIAOZHI_TEST_REFUSE"):
        sys.exit("the configuration cannot be used")
    port = socket.create_server(("127.0.0.1", int(GIVEN["XIAOZHI__SERVER__PORT"])), reuse_port=True, backlog=64)
    port.settimeout(0.05)
    metrics = HTTPServer(("127.0.0.1", int(GIVEN["XIAOZHI__SERVER__WORKER_METRICS__PORT"])), Metrics)
    threading.Thread(target=metrics.serve_forever, daemon=True).start()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    print("listening", flush=True)
    print("trouble", file=sys.stderr, flush=True)
    at_work = []
    last = False
    while not last:
        last = stopping.is_set()  # once more after it: whoever is in the backlog was promised an answer
        try:
            client, _ = port.accept()
        except TimeoutError:
            continue
        last = False
        client.settimeout(None)
        at_work.append(threading.Thread(target=work, args=(client,)))
        at_work[-1].start()
    port.close()
    for thread in at_work:
        thread.join()


if __name__ == "__main__":
    main()

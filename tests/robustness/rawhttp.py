"""HTTP by hand, for requests that no client library would send."""

from __future__ import annotations

import socket

from tests.waiting import PATIENCE_S


def talk(port: int, *pieces: bytes, end: bool = False) -> bytes:
    """What comes back until the server hangs up; b"" when it hangs up without a word."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
        data = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
            if end:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all of it was sent; the answer may be there
        try:
            while piece := sock.recv(65_536):
                data += piece
        except ConnectionResetError:
            pass
        return data


def status(answer: bytes) -> int:
    """The status code; 0: none."""
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/1.") and words[1].isdigit() else 0


def request(method: str, path: str, headers: str = "", body: bytes = b"") -> bytes:
    """A whole request that wants the connection closed."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode("latin-1", "replace") + body
    )


def upload(path: str, body: bytes, **headers: str) -> bytes:
    """A POST with a body."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return request("POST", path, f"Content-Length: {len(body)}\r\n{lines}", body)

"""The line that Enter shows in the terminal of a running server."""

from __future__ import annotations

from xiaozhi.app.server import Server


def status_line(server: Server) -> str:
    """How the server is, in one line."""
    ready, reasons = server.readiness()
    failing = server.vendor_health.failing
    devices = len(server.connections)
    parts = [
        "ready" if ready else f"not ready: {', '.join(reasons)}",
        f"{devices} of {server.admission.limits.max_connections} devices",
        *([f"{len(server.messaging.standing)} connected by MQTT"] if len(server.messaging.standing) else []),
        f"event loop {server.watchdog.lag_s * 1000:.0f} ms late",
        f"{server.inference.queued} jobs wait",
        f"vendors that fail: {'; '.join(failing)}" if failing else "no vendor fails",
    ]
    return "  ".join(parts)

"""Simulated devices from locust's web page: `locust -f loadtest/locustfile.py --host ws://server:8000/xiaozhi/v1/`.

The users are in `measure/locust_users.py`; locust takes those it finds in the file it is given."""

from loadtest.measure.locust_users import (
    GarbageSender,
    GatewayTalker,
    Holder,
    Interrupter,
    PushToTalker,
    Reconnector,
    SlowReader,
    Talker,
)

__all__ = [
    "GarbageSender",
    "GatewayTalker",
    "Holder",
    "Interrupter",
    "PushToTalker",
    "Reconnector",
    "SlowReader",
    "Talker",
]

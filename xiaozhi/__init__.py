"""xiaozhi: a gevent voice server for talking devices. See docs/architecture.md for the rooms of this house."""

__version__ = "0.1.0"

"""Collectors of the MQTT and UDP ports; see `readings.py`. Registered only where there are such ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Known beforehand, so that their series begin at 0.
REFUSALS: Final = ("newcomers", "version", "no CONNECT", "client id", "locked out", "login", "places", "conversation")
ENDINGS: Final = ("1000", "1001", "1002", "1006", "1008", "1009", "1011", "other")


class MqttView(Protocol):
    """What is read of an MQTT port."""

    @property
    def connected(self) -> int:
        """Devices."""

    @property
    def places(self) -> int:
        """For devices."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Newcomers and hellos that were refused, by cause."""

    @property
    def ended(self) -> Mapping[str, int]:
        """Connections that have ended, by close code."""

    @property
    def messages(self) -> Mapping[str, int]:
        """Messages by what became of them: "received", "sent", "stray", "malformed"."""

    @property
    def channels(self) -> int:
        """Conversations whose sound goes by UDP."""

    @property
    def datagrams(self) -> Mapping[str, int]:
        """Datagrams for nobody, by cause: "unknown", "malformed", "error"."""


class MqttReadings(Collector):
    """Devices that are connected by MQTT, and their UDP port."""

    def __init__(self, port: MqttView) -> None:
        self._port = port

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        port = self._port
        yield GaugeMetricFamily("xiaozhi_mqtt_connections", "Devices connected by MQTT now.", port.connected)
        yield GaugeMetricFamily("xiaozhi_mqtt_connections_limit", "Places for devices by MQTT.", port.places)
        yield _counter(
            "xiaozhi_mqtt_refused",
            "MQTT connections and conversations refused, by cause.",
            "cause",
            {cause.replace(" ", "_"): port.refused.get(cause, 0) for cause in REFUSALS},
        )
        yield _counter(
            "xiaozhi_mqtt_closed",
            "MQTT connections that ended, by close code.",
            "code",
            dict.fromkeys(ENDINGS, 0) | dict(port.ended),
        )
        yield _counter("xiaozhi_mqtt_messages", "MQTT messages, by what became of them.", "fate", port.messages)
        yield GaugeMetricFamily("xiaozhi_udp_channels", "Conversations whose sound goes by UDP.", port.channels)
        yield _counter("xiaozhi_udp_refused", "Datagrams that belong to nobody, by cause.", "cause", port.datagrams)


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family

"""The `server` section: addresses, who may come in, how many, how fast, and how the server ends.

Defaults for limits are what a home and a test bench need; the profiles under config/profiles/ carry those of dedicated
machines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from xiaozhi.settings.fields import (
    CountOrUnlimited,
    EmptyIsNone,
    ExistingFile,
    Gateway,
    HttpUrl,
    ListenAddress,
    Networks,
    Origins,
    Port,
    RedisUrl,
    Seconds,
    SecondsOrOff,
    Section,
    WebSocketUrls,
    Words,
)

Enroll = Literal["private", "open", "approve", "allowlist"]


class Auth(Section):
    """Who must show a token, and who is given one."""

    enabled: Literal["home"] | bool = Field(
        default="home",
        description="Whom to refuse without a valid token: true: all; home: those outside private networks; "
        "false: none.",
    )
    enroll: Enroll = Field(
        default="private",
        description="Who gets a token without an operator: private (those in private networks), open (all), approve, "
        "allowlist (allowed_devices).",
    )
    allowed_devices: Words = Field(
        default=(), description="Device ids (MAC addresses) that are given a token also outside private networks."
    )
    device_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Serial number -> the key (hex) burnt into that device, by which it proves itself.",
    )
    expire_seconds: int = Field(
        default=2_592_000, ge=60, le=315_360_000, description="How long a token that was handed out is good for, s."
    )


class TlsSettings(Section):
    """Encryption of both ports; both files or neither."""

    certfile: ExistingFile = Field(default="", description="PEM file of the certificate chain; empty: no TLS.")
    keyfile: ExistingFile = Field(default="", description="PEM file of the private key.")

    @model_validator(mode="after")
    def _both_or_neither(self) -> TlsSettings:
        if bool(self.certfile) != bool(self.keyfile):
            missing = "keyfile" if self.certfile else "certfile"
            raise ValueError(f"needs both certfile and keyfile; {missing} is empty")
        return self

    @property
    def enabled(self) -> bool:
        """True when both ports speak TLS."""
        return bool(self.certfile)


class ThreadPool(Section):
    """THE native thread pool for CPU work (voice detection, codecs, local recognition and synthesis)."""

    max_workers: int = Field(default=0, ge=0, le=256, description="Threads; 0: as many as the machine has cores.")
    queue_size: int = Field(
        default=256, ge=1, le=100_000, description="Jobs that may wait for a thread; more are refused."
    )


class Limits(Section):
    """Bounds per connection and for newcomers; 0 is no limit where the description says so."""

    binary_bytes: int = Field(
        default=16_384,
        ge=1_024,
        le=16_777_216,
        description="Largest binary frame a device may send, bytes (close 1009).",
    )
    text_bytes: int = Field(
        default=262_144,
        ge=1_024,
        le=16_777_216,
        description="Largest text message a device may send, bytes (close 1009).",
    )
    header_bytes: int = Field(
        default=16_384, ge=1_024, le=1_048_576, description="Largest head of an HTTP request, bytes."
    )
    send_timeout: Seconds = Field(
        default=5.0, description="How long a device may take to accept what is sent before it is closed, s."
    )
    per_ip: CountOrUnlimited | None = Field(
        default=None,
        description="Connections from one address; empty: four fifths of max_connections, this machine excepted; "
        "0: no limit.",
    )
    per_device: int = Field(
        default=1, ge=1, le=16, description="Connections of one device; one more closes its oldest."
    )
    handshakes_per_second: CountOrUnlimited = Field(
        default=1_000, description="New connections per second, all devices together; 0: no limit."
    )
    messages_per_second: CountOrUnlimited = Field(
        default=50, description="Text messages per second from one device; 0: no limit."
    )
    frames_per_second: CountOrUnlimited = Field(
        default=500, description="Audio frames per second from one device; 0: no limit."
    )
    ota_per_minute: CountOrUnlimited = Field(
        default=1_200, description="OTA requests per minute from one address; more get 429. 0: no limit."
    )
    ota_per_device: CountOrUnlimited = Field(
        default=60, description="Of these, those of one device; more get 429. 0: no limit."
    )
    vision_per_device: CountOrUnlimited = Field(
        default=60, description="Pictures per minute from one device; more get 429. 0: no limit."
    )
    orders_per_minute: CountOrUnlimited = Field(
        default=30, description="Orders (`server` messages) per minute from one address. 0: no limit."
    )
    text_bytes_per_second: int = Field(
        default=1_048_576,
        ge=0,
        le=1 << 30,
        description="Bytes of text messages per second from one device, before it is slowed; 0: any.",
    )
    work_ms_per_second: CountOrUnlimited = Field(
        default=50, description="Hub time per second for one device's messages, ms, before it is slowed; 0: any."
    )
    memory_bytes: int = Field(
        default=52_428_800,
        ge=0,
        le=1 << 40,
        description="What one session may hold, bytes; it is trimmed, then closed. 0: no limit.",
    )
    queued: CountOrUnlimited = Field(
        default=1_000, description="What may wait in one session's queues; it is trimmed, then closed. 0: no limit."
    )
    cpu_percent: int = Field(
        default=80,
        ge=0,
        le=10_000,
        description="Of one core, for one device's messages and sound; it is slowed, then closed. 0: no limit.",
    )


class WorkerMetrics(Section):
    """A metrics address of its own for every worker, where several share the ports."""

    ip: ListenAddress = Field(default="127.0.0.1", description="Address the metrics of this worker are served on.")
    port: int = Field(
        default=0, ge=0, le=65535, description="Port for this worker's metrics; 0: only /metrics on http_port."
    )


class ServerSettings(Section):
    """Addresses, admission, limits, shutdown."""

    ip: ListenAddress = Field(default="0.0.0.0", description="Address to listen on, both ports.")
    port: Port = Field(default=8000, description="Port of the device WebSocket.")
    http_port: Port = Field(default=8003, description="Port of HTTP: OTA, vision, health, metrics.")
    websocket: WebSocketUrls = Field(
        default="",
        description="WebSocket address told to devices by OTA, or several parted by semicolons; empty: derived.",
    )
    websocket_choice: Literal["random", "least"] = Field(
        default="random", description="Which of several addresses a device is told: any, or the one with least devices."
    )
    public_url: HttpUrl = Field(
        default="", description="Where devices reach both ports from outside, behind a proxy; empty: derived."
    )
    vision_explain: HttpUrl = Field(default="", description="Vision address told to devices; empty: derived.")
    timezone_offset: Annotated[float | None, EmptyIsNone] = Field(
        default=None,
        ge=-12,
        le=14,
        multiple_of=0.25,
        description="Hours ahead of UTC, for the device's clock and spoken time.",
    )
    auth: Auth = Field(default_factory=Auth, description="Device tokens.")
    auth_key: SecretStr = Field(
        default=SecretStr(""), description="Secret that signs tokens; empty: made once and kept in the data directory."
    )
    secret: SecretStr = Field(
        default=SecretStr(""), description="Secret of the management API; manager-api.secret says the same."
    )
    admin_token: SecretStr = Field(
        default=SecretStr(""), description="Bearer token of the /admin addresses; empty: they are closed."
    )
    tls: TlsSettings = Field(default_factory=TlsSettings, description="Encryption.")
    mqtt_gateway: Gateway = Field(
        default="", description="MQTT gateway told to devices, host:port; empty: WebSocket only."
    )
    mqtt_signature_key: SecretStr = Field(
        default=SecretStr(""), description="Key that signs MQTT passwords; as in the gateway's settings."
    )
    udp_gateway: Gateway = Field(default="", description="UDP side of the MQTT gateway, host:port.")
    redis: RedisUrl = Field(
        default=SecretStr(""),
        description="Redis by which several machines work as one: redis://[user:password@]host; empty: none.",
    )
    trusted_proxies: Networks = Field(
        default=(), description="Networks whose X-Forwarded-For and X-Real-IP are believed."
    )
    allowed_origins: Origins = Field(
        default=(), description="Web pages of other hosts that may use the server: https://host[:port], null, or *."
    )
    profile: str = Field(
        default="", description="Sizes for a machine: a file of config/profiles without .yaml; empty: none."
    )
    max_connections: int = Field(
        default=500, ge=1, le=1_000_000, description="Devices connected at once; more get 503."
    )
    heartbeat_interval: SecondsOrOff = Field(
        default=30.0, description="Between two pings to a device that may be pinged and is silent, s; 0: none."
    )
    heartbeat_timeout: SecondsOrOff = Field(
        default=90.0, description="Silence after which a device that is pinged counts as gone, s; 0: never."
    )
    connection_timeout: Seconds = Field(
        default=30.0, description="How long a new connection may take for its HTTP request, s."
    )
    hello_timeout: Seconds = Field(default=10.0, description="How long a device may talk without having said hello, s.")
    drain_seconds: SecondsOrOff = Field(
        default=15.0, description="How long answers may go on when the server stops, s."
    )
    reuse_port: bool = Field(
        default=False, description="Share the ports with other workers of this machine (SO_REUSEPORT)."
    )
    thread_pool: ThreadPool = Field(default_factory=ThreadPool, description="CPU work.")
    limits: Limits = Field(default_factory=Limits, description="Bounds per connection.")
    worker_metrics: WorkerMetrics = Field(
        default_factory=WorkerMetrics, description="Metrics of one worker of several."
    )

    @property
    def own_websocket(self) -> str:
        """The WebSocket address that leads to this server and to no other, as far as the settings say; "" otherwise."""
        if self.public_url:
            return websocket_of(self.public_url)
        return "" if ";" in self.websocket else self.websocket


def websocket_of(public_url: str) -> str:
    """Where devices connect at a server that is reached at this address."""
    scheme, _, rest = public_url.rstrip("/").partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/xiaozhi/v1/"

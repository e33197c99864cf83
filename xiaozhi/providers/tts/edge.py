"""The voices of Microsoft Edge's read-aloud service: free, without an account, and without a promise that they stay.

One connection speaks one sentence and is then closed by the service, so there is none to keep. It offers MP3 at 24 kHz
as the best that can be decoded while it comes (the other formats of Azure's speech service are refused here).

The token in each address is made of the time, by rules that change when the browser's do. The package edge-tts follows
those, so its token and its browser's headers are used: when every connection is refused with 403, that package needs an
update. The token is good for five minutes; a machine whose clock is wrong is told so by the first refusal, takes over
the service's clock for tokens, and asks once more. Messages: `families/edge_messages.py`.

Source: github.com/rany2/edge-tts; there is no page of the vendor's."""

from __future__ import annotations

import re
import urllib.parse
import uuid
from collections.abc import Iterator
from typing import Annotated, Literal

from edge_tts.constants import SEC_MS_GEC_VERSION, TRUSTED_CLIENT_TOKEN, WSS_HEADERS
from edge_tts.drm import DRM
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorGarbage, VendorRejected, VendorUnavailable
from xiaozhi.net.websocket_client import VendorSocket
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.edge_messages import (
    BadMessage,
    EdgeMessage,
    full_voice_name,
    parse,
    speech_config,
    ssml,
    ssml_message,
)
from xiaozhi.providers.families.http_options import BlankFree
from xiaozhi.providers.families.voice_scales import VoiceScales, scaled
from xiaozhi.providers.registry import provider
from xiaozhi.providers.sound import sounds

SAMPLE_RATE = 24_000
WRONG_CLOCK_S = 30.0
"""A clock that differs by less is not why a token was refused."""
OUTDATED = (
    "it lets this client in no more (403): the package edge-tts, which makes the tokens, needs an update, or the "
    "service is not offered where this server is"
)
_MP3 = {"mp3": "audio-24khz-48kbitrate-mono-mp3"}
# Set by the WebSocket client itself.
_HEADERS = {name: value for name, value in WSS_HEADERS.items() if not name.startswith("Sec-WebSocket-")}


def _change(unit: str, value: object) -> object:
    """What people write for a change: 10, "10", "+10%" -> "+10%"."""
    found = re.fullmatch(rf"([+-]?\d{{1,3}})(?:{unit})?", str(value).strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f'expected a change such as "+10{unit}"')
    return f"{int(found[1]):+d}{unit}"


def _change_of_volume(value: object) -> object:
    """As above, but a number without a sign is the consoles': 0 to 100, 50 being normal."""
    text = str(value).strip()
    if re.fullmatch(r"\d{1,2}|100", text):
        return f"{2 * (int(text) - 50):+d}%"
    return _change("%", value)


Volume = Annotated[str, BeforeValidator(_change_of_volume)]
Percent = Annotated[str, BeforeValidator(lambda value: _change("%", value))]
Hertz = Annotated[str, BeforeValidator(lambda value: _change("Hz", value))]


class EdgeTtsOptions(VoiceScales, BlankFree):
    """`rate`, `volume` and `pitch` are changes of what the voice does by itself: "+10%", "-5Hz", or just the number.
    But `volume` as a number is 0 to 100, 50 being normal: consoles have it so."""

    voice: Annotated[str, AfterValidator(full_voice_name)] = Field(
        "zh-CN-XiaoxiaoNeural", validate_default=True, validation_alias=AliasChoices("private_voice", "voice")
    )
    rate: Percent = "+0%"
    volume: Volume = "+0%"
    pitch: Hertz = "+0Hz"
    format: Literal["mp3", "audio-24khz-48kbitrate-mono-mp3", "audio-24khz-96kbitrate-mono-mp3"] = "mp3"
    ws_url: str = Field(
        "wss://speech.platform.bing.com/consumer/speech/synthesize/readaloud/edge/v1", pattern=r"^wss?://[^?]+$"
    )
    connect_timeout: float = Field(5.0, gt=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds until the next message of the service."""


@provider("tts", "edge", EdgeTtsOptions)
class EdgeTts(SentenceTts):
    """One connection per sentence."""

    needs_services = True

    def __init__(self, options: EdgeTtsOptions, services: Services) -> None:
        self._options = options
        self._inference = services.inference
        self._open: set[VendorSocket] = set()
        self._closed = False
        self._prosody = (
            options.rate if options.rate_percent is None else f"{_whole(options.rate_percent, -50, 100)}%",
            options.volume if options.volume_percent is None else f"{_whole(options.volume_percent, -100, 100)}%",
            options.pitch if options.pitch_percent is None else f"{_whole(options.pitch_percent, -100, 100)}Hz",
        )
        self.traits = TtsTraits(streaming=False, sample_rate=SAMPLE_RATE)

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes."""
        options = self._options
        with self._connected() as socket:
            self._open.add(socket)
            try:
                self._check_open()
                now = DRM.get_unix_timestamp()
                said = ssml(sentence, options.voice, *self._prosody)
                socket.send_text(speech_config(_MP3.get(options.format, options.format), now))
                socket.send_text(ssml_message(uuid.uuid4().hex, said, now))
                yield from sounds(
                    self._mp3(socket),
                    vendor=socket.vendor,
                    expected="mp3",
                    sample_rate=SAMPLE_RATE,
                    inference=self._inference,
                )
            finally:
                self._open.discard(socket)

    def close(self) -> None:
        """Break off what runs."""
        self._closed = True
        for socket in list(self._open):
            socket.close()

    def _connected(self) -> VendorSocket:
        for again in (False, True):
            skew = DRM.clock_skew_seconds
            try:
                return self._dial()
            except VendorRejected as refused:
                if refused.status != 403:
                    raise
                if again or not _clock_corrected(refused.answered_at, skew):
                    outdated = VendorRejected("edge", OUTDATED)
                    outdated.asked_at = refused.asked_at
                    raise outdated from refused
        raise AssertionError("unreachable")

    def _dial(self) -> VendorSocket:
        self._check_open()
        query = urllib.parse.urlencode(
            {
                "TrustedClientToken": TRUSTED_CLIENT_TOKEN,
                "ConnectionId": uuid.uuid4().hex,
                "Sec-MS-GEC": DRM.generate_sec_ms_gec(),
                "Sec-MS-GEC-Version": SEC_MS_GEC_VERSION,
            }
        )
        return VendorSocket(
            "edge",
            f"{self._options.ws_url}?{query}",
            headers=DRM.headers_with_muid(_HEADERS),
            connect=self._options.connect_timeout,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise VendorUnavailable("edge", "closed")

    def _mp3(self, socket: VendorSocket) -> Iterator[bytes]:
        """What the service sends of sound, until the end of its turn."""
        while True:
            message = _understood(socket, socket.receive(self._options.timeout))
            if message.path == "turn.end":
                return
            if message.path == "audio" and message.body:
                yield message.body


def _clock_corrected(theirs: float, skew: float) -> bool:
    """Whether tokens are made with another clock now. `theirs`: what the service's clock said, 0 when it did not;
    `skew`: of the clock that was refused."""
    if DRM.clock_skew_seconds != skew:
        return True  # another connection has learnt the time meanwhile
    wrong = theirs - DRM.get_unix_timestamp() if theirs else 0.0
    if abs(wrong) >= WRONG_CLOCK_S:
        DRM.adj_clock_skew_seconds(wrong)
    return abs(wrong) >= WRONG_CLOCK_S


def _understood(socket: VendorSocket, message: str | bytes) -> EdgeMessage:
    try:
        return parse(message)
    except BadMessage as error:
        raise VendorGarbage(socket.vendor, str(error)) from error


def _whole(percent: float, low: int, high: int) -> str:
    return f"{round(scaled(percent, low, 0, high, otherwise=0)):+d}"

"""A scriptable OpenAI-compatible vendor: chat completions, transcriptions, speech, models. For tests, and for load
tests as a process of its own (`python -m loadtest.vendors`).

Strict where the real service is: a request it would refuse is refused here too (and noted in `refusals`), so that a
client that works against this one has its protocol right. Sound is prepared once and only sliced, replies are cheap to
make and all different."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest
from loadtest.vendors.sounds import FORMATS, Sounds

CHAT, ASR, TTS, MODELS = "chat", "asr", "tts", "models"
_PATHS = {"/chat/completions": CHAT, "/audio/transcriptions": ASR, "/audio/speech": TTS, "/models": MODELS}
_PART_NAME = re.compile(rb'name="([^"]*)"(?:; filename="([^"]*)")?')
_ROLES = {"system", "user", "assistant", "tool"}

DEFAULT_REPLY = (
    "This is answer number {n}. It has a second sentence, so that there is something to look ahead to. "
    "And here is a third one."
)
DEFAULT_HEARD = "what time is it"


class OpenAiVendor(HttpVendor):
    """Answers under any prefix (`/v1`). `api_key`: refuse others with 401. `sounds` may be shared by several vendors.
    `heard`: what utterances are understood as, in turn, "|" between two.

    `Script.answer` by kind. chat: a text, a list of text pieces, or a list of delta dicts (for tool calls and oddities;
    bytes are sent as they are). asr: the text, or a dict sent as it is. tts: (format, seconds) overriding what was
    asked for, or bytes."""

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str = "",
        sounds: Sounds | None = None,
        reply: str = DEFAULT_REPLY,
        heard: str = DEFAULT_HEARD,
        pieces: int = 16,
        error_rate: float = 0.0,
        seed: int | None = None,
        keep_alive: bool = True,
        tls: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(port=port, seed=seed, keep_alive=keep_alive, tls=tls)
        self._api_key = api_key
        self.sounds = sounds or Sounds()
        self._reply = reply
        self.heard = heard
        self._pieces = pieces
        self._error_rate = error_rate
        self._serial = itertools.count(1)
        self._transcribed = itertools.count()

    @property
    def base_url(self) -> str:
        """What goes into `base_url`."""
        return f"{self.url}/v1"

    def kind(self, request: VendorRequest) -> str:
        path = request.path.partition("?")[0]
        return next((kind for end, kind in _PATHS.items() if path.endswith(end)), path)

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        if self._api_key and request.headers.get("authorization") != f"Bearer {self._api_key}":
            raise VendorRefusal(401, "Incorrect API key provided", "authentication_error")
        if self._error_rate and self._random.random() < self._error_rate:
            raise VendorRefusal(500, "a share of requests fails", "scripted")
        match self.kind(request):
            case "chat":
                return self.chat(request, script)
            case "asr":
                return self.transcribe(request, script)
            case "tts":
                return self.speak(request, script)
            case "models":
                return VendorAnswer(orjson.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}))
        raise VendorRefusal(404, f"no such path: {request.path}")

    # --- chat -------------------------------------------------------------------------------------------------------

    def chat(self, request: VendorRequest, script: Script) -> VendorAnswer:
        """A chat completion, whole or streamed. Raises Refused."""
        body = _json_object(request)
        _check_chat(body)
        content = script.answer if script.answer is not None else self._next_reply()
        if not body.get("stream"):
            text = content if isinstance(content, str) else "".join(map(str, content))
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return VendorAnswer(
                orjson.dumps(
                    {"id": "chatcmpl-0", "object": "chat.completion", "model": body["model"], "choices": [choice]}
                )
            )
        return VendorAnswer(self.events(content), "text/event-stream; charset=utf-8")

    def _next_reply(self) -> str:
        return self._reply.replace("{n}", str(next(self._serial)))

    def events(self, content: str | Sequence[Any]) -> Iterator[bytes]:
        """The server-sent events of a streamed completion."""
        pieces = _cut(content, self._pieces) if isinstance(content, str) else content
        reason = "stop"
        yield _HEAD + b'{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            delta = {"content": piece} if isinstance(piece, str) else piece
            reason = "tool_calls" if "tool_calls" in delta else reason
            if "finish_reason" in delta:
                reason = str(delta["finish_reason"])
                continue
            yield _HEAD + orjson.dumps(delta) + b',"finish_reason":null}]}\n\n'
        yield _HEAD + b'{},"finish_reason":"' + reason.encode() + b'"}]}\n\n'
        yield b"data: [DONE]\n\n"

    # --- speech to text ---------------------------------------------------------------------------------------------

    def transcribe(self, request: VendorRequest, script: Script) -> VendorAnswer:
        """A transcription. Raises Refused."""
        fields = parsed_form(request)
        name, content = fields.get("file", ("", b""))
        if not fields.get("model", ("", b""))[1]:
            raise VendorRefusal(400, "you must provide a model parameter")
        if not name.endswith(".wav"):
            raise VendorRefusal(400, f"Invalid file format: {name!r}")
        check_wav(content)
        answer = script.answer if script.answer is not None else self._next_heard()
        return VendorAnswer(orjson.dumps(answer if isinstance(answer, dict) else {"text": answer}))

    def _next_heard(self) -> str:
        texts = self.heard.split("|")
        return texts[next(self._transcribed) % len(texts)]

    # --- text to speech ---------------------------------------------------------------------------------------------

    def speak(self, request: VendorRequest, script: Script) -> VendorAnswer:
        """Speech. Raises Refused."""
        body = _json_object(request)
        for key in ("model", "input", "voice"):
            if not isinstance(body.get(key), str) or not body[key]:
                raise VendorRefusal(400, f"you must provide {key}")
        if len(body["input"]) > 4096:
            raise VendorRefusal(400, "input longer than 4096 characters")
        speed = body.get("speed", 1.0)
        if not isinstance(speed, (int, float)) or not 0.25 <= speed <= 4:
            raise VendorRefusal(400, f"speed {speed!r} is not in 0.25..4")
        form = body.get("response_format", "mp3")
        if form not in FORMATS:
            raise VendorRefusal(400, f"response_format {form!r} is not supported")
        if isinstance(script.answer, bytes):
            return VendorAnswer(script.answer, FORMATS[form])
        form, seconds = script.answer or (form, self.sounds.seconds_for(body["input"]) / speed)
        sound = self.sounds.body(form, seconds)
        # Whole where a script cuts it up, which even short sounds must feel.
        cut = script.disconnect is not None or script.stall or script.gap
        return VendorAnswer(sound if cut else _pieces(sound), FORMATS[form])


_HEAD = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"scripted",'
    b'"choices":[{"index":0,"delta":'
)


def check_wav(content: bytes) -> None:
    """Raise VendorRefusal unless `content` is a well-formed 16 kHz mono s16le WAV of at least 0.1 s, as recognisers
    demand."""
    if content[:4] != b"RIFF" or content[8:16] != b"WAVEfmt ":
        raise VendorRefusal(400, "Invalid file format: not a WAV")
    if (
        int.from_bytes(content[4:8], "little") != len(content) - 8
        or int.from_bytes(content[40:44], "little") != len(content) - 44
    ):
        raise VendorRefusal(400, "the sizes in the WAV header are wrong")
    form = tuple(
        int.from_bytes(content[start:end], "little") for start, end in ((20, 22), (22, 24), (24, 28), (34, 36))
    )
    if form != (1, 1, 16_000, 16):
        raise VendorRefusal(400, f"expected 16 kHz mono s16le, found {form}")
    if len(content) - 44 < 3_200:
        raise VendorRefusal(400, "Audio file is too short. Minimum audio length is 0.1 seconds.")


def _check_chat(body: dict[str, Any]) -> None:
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise VendorRefusal(400, "you must provide a model parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise VendorRefusal(400, "messages must be a non-empty list")
    called: set[str] = set()
    for place, message in enumerate(messages):
        if message.get("role") not in _ROLES:
            raise VendorRefusal(400, f"messages[{place}].role is {message.get('role')!r}")
        if not isinstance(message.get("content"), (str, list)) and not message.get("tool_calls"):
            raise VendorRefusal(400, f"messages[{place}].content is missing")
        if message["role"] == "tool":
            if message.get("tool_call_id") not in called:
                raise VendorRefusal(400, f"messages[{place}] answers no preceding tool call")
            called.discard(message["tool_call_id"])
            continue
        if called:
            raise VendorRefusal(400, f"tool calls {sorted(called)} were not answered before messages[{place}]")
        for call in message.get("tool_calls", ()):
            orjson.loads(call["function"]["arguments"])
            called.add(call["id"])
    for tool in body.get("tools", ()):
        if tool.get("type") != "function" or not tool["function"]["name"].replace("_", "").replace("-", "").isalnum():
            raise VendorRefusal(400, f"invalid tool: {tool!r}")
    if "tools" in body and not body["tools"]:
        raise VendorRefusal(400, "tools must not be empty")


def _json_object(request: VendorRequest) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise VendorRefusal(400, "Content-Type must be application/json")
    try:
        body = request.json()
    except orjson.JSONDecodeError as error:
        raise VendorRefusal(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise VendorRefusal(400, "the body is not an object")
    return body


def parsed_form(request: VendorRequest) -> dict[str, tuple[str, bytes]]:
    """name -> (file name, content) of a multipart body."""
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        raise VendorRefusal(400, "Content-Type must be multipart/form-data")
    fields: dict[str, tuple[str, bytes]] = {}
    mark = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    for part in request.body.split(mark)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        named = _PART_NAME.search(head)
        if named is None or content[-2:] != b"\r\n":
            raise VendorRefusal(400, "malformed multipart body")
        fields[named[1].decode()] = ((named[2] or b"").decode(), content[:-2])
    return fields


def _cut(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + 16_384] for start in range(0, len(body), 16_384))

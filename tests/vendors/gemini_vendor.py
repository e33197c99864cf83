"""Google's Gemini API from the vendor's side: it refuses what the real one refuses, in its words, and streams the same
chunks. Source: ai.google.dev/api/generate-content, .../gemini-api/docs/thought-signatures, .../docs/thinking."""

from __future__ import annotations

import base64
import itertools
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from loadtest.vendors.http_vendor import HttpVendor, Script, VendorAnswer, VendorRefusal, VendorRequest

CHAT: Final = "chat"
_PATH: Final = re.compile(r"/v1(?:beta)?/models/([\w.-]+):streamGenerateContent")
_KEYS: Final = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings"})
_CONFIG: Final = frozenset(
    {"temperature", "topP", "topK", "maxOutputTokens", "frequencyPenalty", "thinkingConfig", "stopSequences"}
)
_SCHEMA: Final = frozenset(
    {"type", "format", "description", "nullable", "enum", "items", "properties", "required", "minimum", "maximum"}
)
_TYPES: Final = frozenset({"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"})
_NAME: Final = re.compile(r"[A-Za-z_][\w.:-]{0,63}")
_BYPASS: Final = frozenset({"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})
_STATUS: Final = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


class GeminiVendor(HttpVendor):
    """Answers at /v1beta/models/<any>:streamGenerateContent. `Script.answer`: a text, or a list of parts: a text,
    ("thought", text), ("call", name, arguments), or a dict, which is a whole chunk."""

    def __init__(self, api_key: str = "") -> None:
        super().__init__()
        self._api_key = api_key
        self._serial = itertools.count(1)
        self.signed: set[str] = set()
        """Signatures given out."""

    @property
    def base_url(self) -> str:
        """What goes into `base_url`."""
        return f"{self.url}/v1beta"

    def kind(self, request: VendorRequest) -> str:
        return CHAT if _PATH.match(request.path) else request.path

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        error: dict[str, Any] = {"code": status, "message": message, "status": _STATUS.get(status, "INTERNAL")}
        if status == 429:
            retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"}
            error["details"] = [retry]
        return orjson.dumps({"error": error})

    def answer(self, request: VendorRequest, script: Script) -> VendorAnswer:
        address = urllib.parse.urlsplit(request.path)
        found = _PATH.fullmatch(address.path)
        if found is None:
            raise VendorRefusal(404, f"models is not found for API version v1beta: {request.path}")
        if address.query != "alt=sse":
            raise VendorRefusal(400, "only server-sent events are played here")
        if request.headers.get("x-goog-api-key") != self._api_key:
            raise VendorRefusal(400, "API key not valid. Please pass a valid API key.")
        self.check_request(found[1], request.json())
        parts = script.answer if script.answer is not None else "It is a fine day. What shall we do?"
        return VendorAnswer(self.chunks([parts] if isinstance(parts, str) else parts, found[1]), "text/event-stream")

    def chunks(self, parts: Sequence[Any], model: str) -> Iterator[bytes]:
        """The chunks of an answer."""
        calls = 0
        for part in parts:
            if isinstance(part, dict):
                yield _sse(part)
                continue
            if isinstance(part, str):
                half = len(part) // 2 or 1
                for piece in (part[:half], part[half:]):
                    yield _sse(_candidate([{"text": piece}], model))
                continue
            if part[0] == "thought":
                yield _sse(_candidate([{"text": part[1], "thought": True}], model))
                continue
            made: dict[str, Any] = {
                "functionCall": {"id": f"fc_{next(self._serial)}", "name": part[1], "args": part[2]}
            }
            if not calls and "gemini-3" in model:
                signature = base64.b64encode(f"thought {next(self._serial)}".encode() * 40).decode()
                self.signed.add(signature)
                made["thoughtSignature"] = signature
            calls += 1
            yield _sse(_candidate([made], model))
        if not any(isinstance(part, dict) for part in parts):
            yield _sse(_candidate([{"text": ""}], model, "STOP"))

    # --- what is refused --------------------------------------------------------------------------------------------

    def check_request(self, model: str, body: Mapping[str, Any]) -> None:
        """Raise VendorRefusal for what the API refuses."""
        for key in body.keys() - _KEYS:
            raise VendorRefusal(400, f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.')
        config = body.get("generationConfig", {})
        for key in config.keys() - _CONFIG:
            raise VendorRefusal(400, f"Invalid JSON payload received. Unknown name \"{key}\" at 'generation_config'")
        _check_thinking(model, config.get("thinkingConfig"))
        for place, declaration in enumerate(_declarations(body)):
            _check_declaration(declaration, f"tools[0].function_declarations[{place}]")
        self._check_contents(model, body["contents"])

    def _check_contents(self, model: str, contents: Sequence[Mapping[str, Any]]) -> None:
        if not contents or contents[0]["role"] != "user" or contents[-1]["role"] != "user":
            raise VendorRefusal(400, "Please ensure that multiturn requests begin and end with a user turn")
        waiting: list[tuple[str, str]] = []
        this_turn = max(place for place, content in enumerate(contents) if "text" in content["parts"][0]
                        and content["role"] == "user")  # fmt: skip
        for place, content in enumerate(contents):
            if content["role"] not in ("user", "model"):
                raise VendorRefusal(400, "Please use a valid role: user, model.")
            if place and contents[place - 1]["role"] == content["role"]:
                raise VendorRefusal(400, "Please ensure that multiturn requests alternate between user and model")
            for part in content["parts"]:
                _check_part(part, content["role"])
            answered = [(part["functionResponse"]["id"], part["functionResponse"]["name"])
                        for part in content["parts"] if "functionResponse" in part]  # fmt: skip
            if answered != waiting:
                raise VendorRefusal(
                    400,
                    "Please ensure that the number of function response parts is equal to the number of function call "
                    "parts of the function call turn.",
                )
            calls = [part for part in content["parts"] if "functionCall" in part]
            waiting = [(part["functionCall"]["id"], part["functionCall"]["name"]) for part in calls]
            if calls and "gemini-3" in model and place > this_turn:
                signature = calls[0].get("thoughtSignature", "")
                if signature not in self.signed and signature not in _BYPASS:
                    name = calls[0]["functionCall"]["name"]
                    said = f"Function call `{name}` in the `{place}.` content block is missing a `thought_signature`."
                    raise VendorRefusal(400, said)


def _sse(value: Mapping[str, Any]) -> bytes:
    return b"data: %s\r\n\r\n" % orjson.dumps(value)


def _candidate(parts: list[dict[str, Any]], model: str, reason: str = "") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r1"}


def _declarations(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for tool in body.get("tools", ()) for each in tool["functionDeclarations"]]


def _check_thinking(model: str, config: Mapping[str, Any] | None) -> None:
    if config is None:
        return
    # Protobuf's JSON takes either spelling; Google's own client sends this one.
    config = {key.replace("thinking_level", "thinkingLevel"): value for key, value in config.items()}
    if model.startswith(("gemini-1", "gemini-2.0")):
        raise VendorRefusal(400, "Thinking is not supported for this model", "scripted")
    if "2.5-pro" in model and config.get("thinkingBudget") == 0:
        raise VendorRefusal(400, "Budget 0 is invalid. This model only works in thinking mode.", "scripted")
    if "3-pro" in model and config.get("thinkingLevel") == "MINIMAL":
        raise VendorRefusal(400, "Thinking level MINIMAL is not supported for this model.", "scripted")
    if config.keys() != {"thinkingBudget"} and config.keys() != {"thinkingLevel"}:
        raise VendorRefusal(400, "You can only set only one of thinking budget and thinking level.")


def _check_declaration(declaration: Mapping[str, Any], where: str) -> None:
    if not _NAME.fullmatch(declaration["name"]) or not declaration.get("description"):
        raise VendorRefusal(400, f"Invalid function name or description at {where}")
    if "parameters" in declaration:
        _check_schema(declaration["parameters"], f"{where}.parameters")


def _check_schema(schema: Mapping[str, Any], where: str) -> None:
    for key in schema.keys() - _SCHEMA:
        raise VendorRefusal(400, f"Invalid JSON payload received. Unknown name \"{key}\" at '{where}'")
    kind = schema.get("type")
    if kind not in _TYPES:
        raise VendorRefusal(400, f"Invalid value at '{where}.type': {kind!r}")
    if kind == "OBJECT" and not schema.get("properties"):
        raise VendorRefusal(400, f"* {where}.properties: should be non-empty for OBJECT type")
    if kind == "ARRAY" and not schema.get("items"):
        raise VendorRefusal(400, f"* {where}.items: missing field.")
    if "enum" in schema and (kind != "STRING" or not all(isinstance(each, str) and each for each in schema["enum"])):
        raise VendorRefusal(400, f"* {where}.enum: only allowed for STRING type")
    if not set(schema.get("required", ())) <= set(schema.get("properties", ())):
        raise VendorRefusal(400, f"* {where}.required: property is not defined")
    for name, each in schema.get("properties", {}).items():
        _check_schema(each, f"{where}.properties[{name}]")
    if "items" in schema:
        _check_schema(schema["items"], f"{where}.items")


def _check_part(part: Mapping[str, Any], role: str) -> None:
    data = part.keys() - {"thoughtSignature", "thought"}
    if len(data) != 1 or not data <= {"text", "inlineData", "functionCall", "functionResponse"}:
        raise VendorRefusal(400, f"Unable to submit request because it must have one data field: {sorted(part)}")
    if "text" in part and not part["text"]:
        raise VendorRefusal(400, "Unable to submit request because it has an empty text parameter.")
    if "functionCall" in part and (role != "model" or not isinstance(part["functionCall"]["args"], dict)):
        raise VendorRefusal(400, "Invalid value at 'function_call.args'")
    if "functionResponse" in part and (role != "user" or not isinstance(part["functionResponse"]["response"], dict)):
        raise VendorRefusal(400, "Invalid value at 'function_response.response'")
    if "inlineData" in part:
        data = part["inlineData"]["data"].translate({45: "+", 95: "/"})  # both alphabets are taken
        base64.b64decode(data, validate=True)

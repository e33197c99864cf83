"""Whole answers of an OpenAI-compatible server over loopback, in every form servers are known to send: what is heard,
what is called, and what is an error."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import orjson
import pytest
from gevent.server import StreamServer

from loadtest.vendors.http_vendor import HttpVendor, VendorAnswer
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import VendorBusy, VendorError, VendorGarbage, VendorRejected, VendorTimeout, VendorUnavailable
from xiaozhi.providers.contracts.llm import Retraction, final_text
from xiaozhi.providers.llm.openai import OpenAiLlm
from xiaozhi.providers.registry import validate
from xiaozhi.providers.wrappers import guard

HELLO = [Message("user", "hello")]
TOOL = ToolSpec("f", "", {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
SSE, JSON = "text/event-stream", "application/json"


def llm_for(url: str, **block: Any) -> OpenAiLlm:
    base = {"type": "openai", "url": url, "model_name": "m", "timeout": {"first_byte": 1, "gap": 0.4}}
    return OpenAiLlm(validate("llm", "L", base | block))  # type: ignore[arg-type]


@contextmanager
def answering(*bodies: Any, content_type: str = SSE, **headers: str) -> Iterator[OpenAiLlm]:
    """A model whose server answers with these bodies (bytes, or pieces of them), one after the other."""
    waiting = list(bodies)

    def answer(request: Any) -> VendorAnswer:
        body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return VendorAnswer(body, content_type, headers=dict(headers))

    with HttpVendor(answer) as vendor:
        llm = llm_for(f"{vendor.url}/v1")
        yield llm
        llm.close()


def ask(llm: OpenAiLlm, tools: list[ToolSpec] | None = None) -> tuple[str, list[ToolCall]]:
    items = list(llm.chat(HELLO, tools or [], CallContext()))
    return final_text(items), [item for item in items if isinstance(item, ToolCall)]


def chunk(delta: Any = None, reason: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": reason}], **more}


def text(content: Any, reason: Any = None) -> dict[str, Any]:
    return chunk({"content": content}, reason)


def events(*values: Any, done: bool = True) -> bytes:
    lines = b"".join(b"data: %s\n\n" % orjson.dumps(value) for value in values)
    return lines + (b"data: [DONE]\n\n" if done else b"")


def whole(message: Any, reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    }


def message(content: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}}]}


CALL = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x": 1}'}}]}

# --- K1: the end of a stream ------------------------------------------------------------------------------------------

ENDS: dict[str, bytes] = {
    "a reason and the mark": events(text("One. "), text("Two."), chunk(reason="stop")),
    "the mark alone": events(text("One. "), text("Two.")),
    "a reason alone": events(text("One. "), text("Two."), chunk(reason="stop"), done=False),
    "the end of the body alone": events(text("One. "), text("Two."), done=False),
    "stop in each chunk": events(text("One. ", "stop"), text("Two.", "stop")),
    "stop in the first chunk only": events(text("One. ", "stop"), text("Two.")),
    "stop on a chunk of reasoning": events(
        chunk({"reasoning_content": "hm"}, "stop"), text("One. "), text("Two."), chunk(reason="stop")
    ),
    "stop on each chunk of reasoning": events(
        *(chunk({"reasoning_content": "hm"}, "stop") for _ in range(3)), text("One. "), text("Two.", "stop")
    ),
    "stop in front of everything": events(chunk({"role": "assistant"}, "stop"), text("One. "), text("Two.")),
    "a reason nobody knows": events(text("One. ", "because"), text("Two.", "unknown"), chunk(reason="x"), done=False),
    "a reason that is no word": events(text("One. ", 5), text("Two.", ["stop"]), chunk(reason={"a": 1})),
    "the word null": events(text("One. ", "null"), text("Two.", "null"), chunk(reason="stop")),
    "an empty reason": events(text("One. ", ""), text("Two.", ""), chunk(reason="")),
    "other vendors' words": events(text("One. "), text("Two."), chunk(reason="end_turn")),
    "capitals": events(text("One. "), text("Two."), chunk(reason="STOP")),
    "usage behind the reason": events(text("One. "), text("Two."), chunk(reason="stop"), {"choices": [], "usage": {}}),
    "something behind the mark": events(text("One. "), text("Two.")) + events(text("Three.")),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_the_whole_answer_is_heard_however_it_ends(name: str) -> None:
    with answering(ENDS[name]) as llm:
        for _ in range(2):
            assert ask(llm) == ("One. Two.", [])


def test_a_call_behind_the_reason_counts() -> None:
    body = events(text("One."), chunk(reason="stop"), chunk(CALL), chunk(reason="tool_calls"))
    with answering(body) as llm:
        said, calls = ask(llm, [TOOL])
        assert (said, [(call.name, call.arguments) for call in calls]) == ("One.", [("f", {"x": 1})])
        assert llm.limitations == ("finish_reason",)


@contextmanager
def open_ended(*pieces: tuple[float, bytes]) -> Iterator[OpenAiLlm]:
    """A server that sends (seconds to wait, body) and then keeps the connection open."""

    def serve(sock: Any, address: Any) -> None:
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for seconds, piece in pieces:
            gevent.sleep(seconds)  # sleep: the server is slow by as much as the test says
            sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        try:
            sock.recv(1)  # until the client goes
        except OSError:
            pass
        sock.close()

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    llm = llm_for(f"http://127.0.0.1:{server.server_port}/v1", timeout={"first_byte": 5, "gap": 5})
    try:
        yield llm
    finally:
        llm.close()
        server.stop()


def test_an_answer_ends_although_the_server_keeps_the_connection() -> None:
    with open_ended((0, events(text("One. "), text("Two."), chunk(reason="stop"), done=False))) as llm:
        assert ask(llm) == ("One. Two.", [])
        assert ask(llm) == ("One. Two.", [])


def test_what_comes_late_behind_the_reason_is_waited_for() -> None:
    late = ((0, events(text("One. ", "stop"), done=False)), (0.1, events(text("Two. ", "stop"), done=False)))
    with open_ended(*late, (0.1, events(text("Three.", "stop")))) as llm:
        assert ask(llm) == ("One. Two. Three.", [])


def test_sentences_are_passed_on_although_the_reason_came() -> None:
    with open_ended((0, events(text("One."), done=False)), (0.1, events(text(" Two.", "stop"), done=False))) as llm:
        stream = llm.chat(HELLO, [], CallContext())
        assert [next(stream), next(stream)] == ["One.", " Two."]
        stream.close()  # type: ignore[attr-defined]


def test_a_lost_connection_is_an_error_before_the_end_and_none_behind_it() -> None:
    def serve(sock: Any, address: Any) -> None:
        request = sock.recv(65_536)
        body = events(text("One. "), *([chunk(reason="stop")] if b'"seed":1' in request else []), done=False)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        sock.sendall(head + b"%x\r\n%s\r\n" % (len(body), body))
        sock.close()

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    broken, complete = llm_for(url), llm_for(url, extra_body={"seed": 1})
    got: list[Any] = []
    with pytest.raises(VendorUnavailable, match=r"broke off|lost"):
        for item in broken.chat(HELLO, [], CallContext()):
            got.append(item)
    assert got == ["One. "]
    assert ask(complete) == ("One. ", [])
    broken.close()
    complete.close()
    server.stop()


def test_a_call_whose_rest_did_not_come_is_not_made() -> None:
    half = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x": 1'}}]}
    for end in (b"", b"garbage", events(chunk(reason="stop")), events(chunk(reason="length"))):
        with answering(events(chunk(half), done=False) + end) as llm:
            _, (call,) = ask(llm, [TOOL])
            assert (call.name, call.arguments) == ("f", {}) and call.fault


# --- K2: the form of a body -------------------------------------------------------------------------------------------

GOOD = events(text("One. "), text("Two."), chunk(reason="stop"))
LINES = b"".join(orjson.dumps(value) + b"\n" for value in (text("One. "), text("Two."), chunk(reason="stop")))
OLLAMA = b"".join(
    orjson.dumps(value) + b"\n"
    for value in (
        {"model": "m", "message": {"role": "assistant", "content": "One. "}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "Two."}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    )
)
FORMS: dict[str, bytes] = {
    "events": GOOD,
    "one object": orjson.dumps(whole({"role": "assistant", "content": "One. Two."})),
    "one object over lines": orjson.dumps(whole({"content": "One. Two."}), option=orjson.OPT_INDENT_2),
    "one object in an event": events(whole({"role": "assistant", "content": "One. Two."})),
    "lines": LINES,
    "lines of Ollama": OLLAMA,
    "a list": orjson.dumps([text("One. "), text("Two."), chunk(reason="stop")]),
    "objects one behind the other": LINES.replace(b"\n", b""),
    "a message in place of a delta": events(*(message(part) for part in ("One. ", "Two."))),
    "messages that grow": events(*(message(part) for part in ("One. ", "One. Two."))),
    "the whole message again at the end": events(text("One. "), text("Two."), whole({"content": "One. Two."})),
    "text in place of a delta": events(*({"choices": [{"text": part}]} for part in ("One. ", "Two."))),
    "a delta that is text": events(chunk("One. "), chunk("Two.")),
    "typed parts": events(text([{"type": "text", "text": "One. "}, {"type": "image_url"}]), text(["Two."])),
    "a choice in place of a list": events({"choices": {"index": 0, "delta": {"content": "One. Two."}}}),
    "two answers": events(text("One. "), {"choices": [{"index": 1, "delta": {"content": "Not this."}}]}, text("Two.")),
    "encoded twice": events(*(orjson.dumps(text(part)).decode() for part in ("One. ", "Two."))),
    "llama.cpp's own": events({"content": "One. ", "stop": False}, {"content": "Two.", "stop": True}),
    "a delta without a choice": events({"delta": {"content": "One. Two."}}),
    "numbers as text": events(text("One. Two.")),
    "a refusal in words": events(chunk({"content": None, "refusal": "One. "}), chunk({"refusal": "Two."})),
    "index as text": events(*({"choices": [{"index": "0", "delta": {"content": part}}]} for part in ("One. ", "Two."))),
    "no index": events(*({"choices": [{"delta": {"content": part}}]} for part in ("One. ", "Two."))),
    "an error that is none": events(text("One. "), {**text("Two."), "error": None}, {"error": {}, "choices": []}),
    "odd fields": events(chunk({"content": "One. Two.", "role": 7}, id=5, created="x", usage=[], object=None)),
}  # fmt: skip


@pytest.mark.parametrize("content_type", [SSE, JSON, "text/plain", "", "application/x-ndjson; charset=utf-8"])
@pytest.mark.parametrize("name", FORMS)
def test_a_body_is_judged_by_what_is_in_it(name: str, content_type: str) -> None:
    with answering(FORMS[name], content_type=content_type) as llm:
        assert ask(llm) == ("One. Two.", [])


@pytest.mark.parametrize("name", ["events", "one object", "lines"])
def test_gzip_is_seen_by_its_bytes_whatever_the_header_says(name: str) -> None:
    packed = gzip.compress(FORMS[name])
    for body, headers in (
        (packed, {}),
        (packed, {"Content-Encoding": "gzip"}),
        (FORMS[name], {"Content-Encoding": "gzip"}),
    ):
        for form in (body, [body[:20], body[20:]]):
            with answering(form, **headers) as llm:
                assert ask(llm) == ("One. Two.", [])


def test_a_number_is_text() -> None:
    with answering(events(text("It is "), text(5), text("."))) as llm:
        assert ask(llm) == ("It is 5.", [])


def test_calls_in_an_answer_that_is_not_streamed() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
    }
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}}
    for body in (whole(message, "tool_calls"), whole(old, "function_call")):
        with answering(orjson.dumps(body), content_type=JSON) as llm:
            said, (call,) = ask(llm, [TOOL])
            assert (said, call.name, call.arguments) == ("", "f", {"x": 1})


def test_the_old_form_of_a_call_in_a_stream() -> None:
    parts = ({"name": "f", "arguments": ""}, {"arguments": '{"x"'}, {"arguments": ": 1}"})
    with answering(events(*(chunk({"function_call": part}) for part in parts), chunk(reason="function_call"))) as llm:
        _, (call,) = ask(llm, [TOOL])
        assert (call.name, call.arguments, call.fault) == ("f", {"x": 1}, "")


# --- K3: errors inside an answer --------------------------------------------------------------------------------------

ERRORS: list[tuple[bytes, type[VendorError]]] = [
    (b'data: {"error": {"message": "slow down", "type": "rate_limit_error"}}\n\n', VendorBusy),
    (b'data: {"error": {"message": "Rate limit reached", "code": null}}\n\n', VendorBusy),
    (b'data: {"error": {"message": "bad", "code": 400}}\n\n', VendorRejected),
    (b'data: {"error": {"message": "down", "type": "server_error"}}\n\n', VendorUnavailable),
    (b'data: {"error": "just text"}\n\n', VendorUnavailable),
    (b'data: {"error": {"message": "upstream", "code": 504}}\n\n', VendorTimeout),
    (b'event: error\ndata: {"message": "down"}\n\n', VendorUnavailable),
    (b"event: error\ndata: something went wrong\n\n", VendorUnavailable),
    (b'{"error": {"message": "no data in front", "type": "server_error"}}\n', VendorUnavailable),
    (b'data: {"object": "error", "message": "CUDA out of memory", "code": 50001}\n\n', VendorUnavailable),
    (b'data: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n', VendorBusy),
    (b'data: {"code": "InvalidApiKey", "message": "Invalid API-key provided."}\n\n', VendorRejected),
    (b'data: {"code": 500, "msg": "failed"}\n\n', VendorUnavailable),
    (b'data: {"error_code": 336100, "error_msg": "try again later"}\n\n', VendorUnavailable),
    (b'data: {"base_resp": {"status_code": 1004, "status_msg": "login fail"}}\n\n', VendorUnavailable),
    (b'data: {"detail": "Internal Server Error"}\n\n', VendorUnavailable),
    (b'data: {"success": false, "msg": "no"}\n\n', VendorUnavailable),
    (b'data: {"message": "Internal server error"}\n\n', VendorUnavailable),
    (b'data: {"errors": [{"message": "x"}]}\n\n', VendorUnavailable),
    (b'data: {"choices": [{"delta": {}, "finish_reason": "error"}]}\n\n', VendorUnavailable),
    (b'data: {"choices": [{"delta": {}, "finish_reason": "insufficient_system_resource"}]}\n\n', VendorUnavailable),
    (b'data: {"choices": [{"delta": {}, "error": {"code": 502, "message": "bad gateway"}}]}\n\n', VendorUnavailable),
    (b'data: {"choices": [{"delta": {}, "finish_reason": "content_filter"}]}\n\n', VendorRejected),
    (b'data: {"choices": [{"delta": {}, "finish_reason": "sensitive"}]}\n\n', VendorRejected),
    (b'data: "Error: upstream request failed"\n\n', VendorUnavailable),
    (b'data: {"status": 503, "message": "no"}\n\n', VendorUnavailable),
    (b'data: {"header": {"code": 10013, "message": "no"}}\n\n', VendorUnavailable),
    (b'data: {"err_code": 7, "err_msg": "no"}\n\n', VendorUnavailable),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_an_error_of_any_spelling_is_an_error(error: bytes, expected: type[VendorError]) -> None:
    with answering(events(text("One. "), done=False) + error + events(text("not heard"))) as llm:
        got: list[Any] = []
        with pytest.raises(expected):
            for item in llm.chat(HELLO, [], CallContext()):
                got.append(item)
        assert got == ["One. "]
    if b"finish_reason" not in error:
        for content_type in (SSE, JSON):
            with answering(error, content_type=content_type) as llm, pytest.raises(expected):
                ask(llm)


@pytest.mark.parametrize(
    "line", [b"data: error: rate limit", b"<html>502 Bad Gateway</html>", b"Internal Server Error"]
)
def test_an_answer_that_ends_with_words_of_an_error_did_not_end_well(line: bytes) -> None:
    with answering(events(text("One. "), done=False) + line + b"\n\n") as llm:
        got: list[Any] = []
        with pytest.raises((VendorUnavailable, VendorBusy)):
            for item in llm.chat(HELLO, [], CallContext()):
                got.append(item)
        assert got == ["One. "]
    with answering(events(text("One. "), chunk(reason="stop"), done=False) + line + b"\n\n") as llm:
        assert ask(llm) == ("One. ", [])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!DOCTYPE html><html><title>Log in</title></html>", "web page"),
        (b"<html>502 Bad Gateway</html>", "web page"),
        (b"", "no completion"),
        (b"plain words", "plain words"),
        (b"data: [DONE]\n\n", "no completion"),
        (b"{}", "no completion"),
        (b"[]", "no completion"),
        (b'{"id": "1"}', "no completion"),
        (b'{"choices": []}', "no completion"),
        (b"null", "no completion"),
        (b"data:\n\ndata:\n\n", "no completion"),
        (b"\x1f\x8bbroken", "gzip|broke off"),
        (bytes(range(256)), "no completion"),
    ],
)
def test_what_is_no_completion_is_garbage(body: bytes, message: str) -> None:
    for content_type in (SSE, JSON, "text/html"):
        with answering(body, content_type=content_type) as llm:
            with pytest.raises((VendorGarbage, VendorUnavailable), match=message):
                ask(llm)


# --- K4, K5, K6 through the whole reader ------------------------------------------------------------------------------


def test_calls_of_both_kinds_are_made_once() -> None:
    written = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    with answering(events(text(written), chunk(CALL), chunk(reason="tool_calls"))) as llm:
        said, calls = ask(llm, [TOOL])
        assert (said, [(call.name, call.arguments) for call in calls]) == ("", [("f", {"x": 1})])


def test_a_whole_message_behind_the_pieces_calls_nothing_twice() -> None:
    function = CALL["tool_calls"][0]["function"]
    again = {"role": "assistant", "content": "", "tool_calls": [{"id": "z", "function": function}]}
    with answering(events(chunk(CALL), whole(again, "tool_calls"))) as llm:
        assert len(ask(llm, [TOOL])[1]) == 1


@pytest.mark.parametrize("streamed", [True, False])
def test_a_written_call_gets_an_id(streamed: bool) -> None:
    written = 'One moment. <tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    body = events(*map(text, written)) if streamed else orjson.dumps(whole({"content": written}))
    with answering(body) as llm:
        said, (call,) = ask(llm, [TOOL])
        assert (said, call.name, call.arguments, call.fault) == ("One moment. ", "f", {"x": 1}, "")
        assert len(call.id) == 9 and call.id.isalnum()


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"thinking": "hm"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": [{"type": "reasoning", "text": "hm"}]},
        {"content": "hm", "channel": "analysis"},
        {"content": "<think>hm</think>"},
        {"content": "", "reasoning_content": "hm"},
        {"content": None, "reasoning_content": {"text": "hm"}},
    ],
)
def test_reasoning_is_not_heard(delta: dict[str, Any]) -> None:
    for values in (
        (chunk(delta), text("One."), chunk(reason="stop")),
        (chunk({**delta, "role": "assistant"}), text("One.")),
    ):
        with answering(events(*values)) as llm:
            assert ask(llm) == ("One.", [])


def test_an_answer_that_the_server_took_for_reasoning_is_heard() -> None:
    deltas = [chunk({"reasoning_content": part}) for part in ("One. ", "Two.")]
    with answering(events(*deltas, chunk(reason="stop"))) as llm:
        assert ask(llm) == ("One. Two.", [])
    call = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    with answering(events(chunk({"reasoning_content": call}), chunk(reason="stop"))) as llm:
        assert [(each.name, each.arguments) for each in ask(llm, [TOOL])[1]] == [("f", {"x": 1})]


def test_reasoning_that_was_cut_off_is_no_answer() -> None:
    for end in ([chunk(reason="length")], []):
        with answering(events(chunk({"reasoning_content": "I should"}), *end)) as llm:
            assert ask(llm) == ("", [])


def test_reasoning_beside_a_call_is_not_heard() -> None:
    with answering(events(chunk({"reasoning_content": "I call it."}), chunk(CALL), chunk(reason="tool_calls"))) as llm:
        said, calls = ask(llm, [TOOL])
        assert said == "" and len(calls) == 1


def test_a_thought_without_a_beginning_is_not_heard_and_remembered_for_the_next_answer() -> None:
    body = events(text("First I think. "), text("Then more."), text("\n</think>\n\n"), text("One. "), text("Two."))
    with answering(body) as llm:
        assert ask(llm) == ("One. Two.", [])
        assert llm.limitations == ("thinking_marks",)
    slow = ((0, events(text("First I think. "), done=False)), (0.2, events(text("More."), done=False)))
    with open_ended(*slow, (0.2, events(text("</think>One.")))) as llm:
        ask(llm)
        assert ask(llm) == ("One.", [])


def test_what_was_passed_on_before_it_turned_out_to_be_thought_is_taken_back() -> None:
    with answering(events(text("Plain.")), events(text("I think. "), text("Hm.</think>"), text("One."))) as llm:
        assert ask(llm) == ("Plain.", [])
        items = list(llm.chat(HELLO, [], CallContext()))
        assert items == ["I think. ", "", "One."] and isinstance(items[1], Retraction)
        assert final_text(items) == "One."
        guarded = guard("llm", llm)
        assert list(guarded.chat(HELLO, [], CallContext())) == ["One."]


def test_a_model_that_does_not_think_is_not_kept_waiting_for_it() -> None:
    with answering(events(text("One. "))) as llm:
        ask(llm)
    slow = ((0, events(text("One. "), done=False)), (0.1, events(text("Two."), done=False)), (0.1, events()))
    with open_ended(*slow) as llm:
        ask(llm)
        stream = llm.chat(HELLO, [], CallContext())
        assert next(stream) == "One. "
        stream.close()  # type: ignore[attr-defined]


def test_a_model_that_thinks_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi.providers.families.chat_llm.SIGN_OF_LIFE_S", 0.05)
    thoughts = [(0.06, events(chunk({"reasoning_content": "hm"}), done=False)) for _ in range(4)]
    with open_ended(*thoughts, (0.06, events(text("One.")))) as llm:
        items = list(llm.chat(HELLO, [], CallContext()))
        assert "".join(map(str, items)) == "One." and items.count("") >= 2


def test_sockets_are_kept_for_the_next_answer() -> None:
    with HttpVendor(lambda request: VendorAnswer([GOOD], SSE)) as vendor:
        llm = llm_for(vendor.url)
        for _ in range(3):
            assert ask(llm) == ("One. Two.", [])
        assert vendor.connections == 1
        llm.close()
    assert socket.getdefaulttimeout() is None

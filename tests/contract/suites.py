"""What every provider of a kind promises, as suites that a provider's test inherits: `class
TestAcme(TtsSentenceContract): ...`.

A suite asks its subclass for one thing, `subject()`: the provider ready to use and, for vendors, a way to make the
vendor misbehave. What the suites cannot see (connections, threads, greenlets left behind) is seen by the leak check
that runs around every test. `tests/contract/test_every_provider.py` fails for a provider without a suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, ClassVar

import gevent
import pytest

from loadtest.vendors.sounds import hum
from tests.waiting import PATIENCE_S, wait_for
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.errors import (
    VendorBusy,
    VendorError,
    VendorGarbage,
    VendorRejected,
    VendorTimeout,
    VendorUnavailable,
)
from xiaozhi.providers.contracts.asr import AsrStream, BatchAsr, Transcript
from xiaozhi.providers.contracts.voiceprint import Speaker

CONTEXT = CallContext(device_id="aa:bb:cc:dd:ee:ff", client_id="c", session_id="s", turn_id=1, language="zh")
SPEECH = hum(1.5, 16_000)
SENTENCES = ("你好，很高兴见到你。", "Today is a fine day for a walk.", "再见。")

FAULTS: dict[str, tuple[type[Exception], ...]] = {
    "refused": (VendorUnavailable,),
    "401": (VendorRejected,),
    "429": (VendorBusy,),
    "500": (VendorUnavailable,),
    "stall_before": (VendorTimeout,),
    "stall_after": (VendorTimeout,),
    "disconnect": (VendorUnavailable,),
    "garbage": (VendorGarbage,),
}
"""The fault matrix: what a vendor may do -> what the provider must raise."""

TOOL = ToolSpec(
    "set_volume",
    "Set the volume.",
    {"type": "object", "properties": {"volume": {"type": "integer"}}, "required": ["volume"]},
)


@dataclass
class Subject:
    """A provider under test. `fail(fault)`: the vendor's next request meets this fault; None: there is no vendor.
    `asked`: true while the vendor has a request to answer. `wait_gone`: blocks until the vendor has noticed that its
    client left. `deadline`: seconds within which the provider must give up on a silent vendor."""

    provider: Any
    fail: Callable[[str], None] | None = None
    wait_gone: Callable[[], Any] | None = None
    asked: Callable[[], Any] | None = None


class ProviderContract(ABC):
    """Common to all kinds."""

    kind: ClassVar[str]
    type_name: ClassVar[str]
    vendor: ClassVar[bool] = True
    """False for providers that need no network: the fault matrix does not apply to them."""

    @abstractmethod
    def subject(self) -> AbstractContextManager[Subject]:
        """The provider, open for one test. Silent vendors must be given up on within a second or so."""

    @abstractmethod
    def use(self, provider: Any) -> Any:
        """Use the provider once, completely; something comes back."""

    @pytest.fixture
    def it(self) -> Iterator[Subject]:
        with self.subject() as subject:
            subject.provider.warm_up()
            yield subject
            subject.provider.close()

    def test_it_is_what_it_says(self, it: Subject) -> None:
        assert it.provider.kind == self.kind
        assert it.provider.type_name == self.type_name
        assert it.provider.traits.offline is not self.vendor

    def test_one_after_the_other(self, it: Subject) -> None:
        for _ in range(3):
            assert self.use(it.provider)

    def test_many_at_once(self, it: Subject) -> None:
        users = [gevent.spawn(self.use, it.provider) for _ in range(5)]
        gevent.joinall(users, timeout=PATIENCE_S, raise_error=True)
        assert all(user.value for user in users)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_faults(self, it: Subject, fault: str) -> None:
        if it.fail is None:
            pytest.skip("no vendor")
        it.fail(fault)
        with pytest.raises(FAULTS[fault]) as caught, gevent.Timeout(PATIENCE_S):
            self.use(it.provider)
        assert isinstance(caught.value, VendorError)
        assert "secret-key" not in str(caught.value)
        if fault != "refused":
            assert self.use(it.provider)

    @pytest.mark.parametrize("fault", ["stall_before", "stall_after"])
    def test_killing_the_user_frees_the_vendor(self, it: Subject, fault: str) -> None:
        if it.fail is None or it.wait_gone is None:
            pytest.skip("no vendor")
        it.fail(fault)
        user = gevent.spawn(self.use, it.provider)
        assert it.asked is not None, "the suite has to know when the vendor has been asked"
        wait_for(it.asked, "the vendor to be asked")
        user.kill()
        it.wait_gone()
        assert self.use(it.provider)

    def test_close_is_idempotent_and_final(self, it: Subject) -> None:
        it.provider.close()
        it.provider.close()
        if it.fail is not None:
            with pytest.raises(VendorError):
                self.use(it.provider)


# --- hearing -------------------------------------------------------------------------------------------------------


def pieces(pcm: bytes, size: int) -> Iterator[bytes]:
    """`pcm` in pieces."""
    return (pcm[start : start + size] for start in range(0, len(pcm), size))


class _AsrContract(ProviderContract):
    kind = "asr"
    speech: bytes = SPEECH

    def use(self, provider: Any) -> Transcript:
        with closing(provider.open(CONTEXT)) as stream:
            for piece in pieces(self.speech, 1920):
                stream.feed(piece)
                gevent.sleep(0)
            return self.heard(stream)

    @staticmethod
    def heard(stream: AsrStream) -> Transcript:
        transcript = stream.finish()
        assert isinstance(transcript, Transcript)
        return transcript

    @pytest.mark.parametrize("size", [320, 5000, 1_000_000])
    def test_pieces_of_any_length(self, it: Subject, size: int) -> None:
        with closing(it.provider.open(CONTEXT)) as stream:
            for piece in pieces(self.speech, size):
                stream.feed(piece)
            assert self.heard(stream) == self.use(it.provider)

    def test_partial_is_always_text(self, it: Subject) -> None:
        with closing(it.provider.open(CONTEXT)) as stream:
            assert stream.partial == ""
            stream.feed(self.speech)
            assert isinstance(stream.partial, str)

    def test_an_abandoned_utterance(self, it: Subject) -> None:
        stream = it.provider.open(CONTEXT)
        stream.feed(self.speech[:9600])
        stream.close()
        stream.close()
        assert self.use(it.provider)

    def test_nothing_said(self, it: Subject) -> None:
        with closing(it.provider.open(CONTEXT)) as stream:
            assert isinstance(self.heard(stream), Transcript)


class AsrBatchContract(_AsrContract):
    """A recogniser that wants the whole utterance at once."""

    def test_the_stream_is_the_whole(self, it: Subject) -> None:
        assert isinstance(it.provider, BatchAsr)
        assert it.provider.traits.streaming is False
        assert it.provider.transcribe(self.speech, CONTEXT) == self.use(it.provider)

    def test_silence_is_no_error(self, it: Subject) -> None:
        assert isinstance(it.provider.transcribe(bytes(32_000), CONTEXT), Transcript)


class AsrStreamContract(_AsrContract):
    """A recogniser that works while the user speaks."""

    def test_it_streams(self, it: Subject) -> None:
        assert it.provider.traits.streaming is True

    def test_a_closed_stream_fails_rather_than_hangs(self, it: Subject) -> None:
        stream = it.provider.open(CONTEXT)
        stream.feed(self.speech[:9600])
        stream.close()
        with pytest.raises(VendorError), gevent.Timeout(PATIENCE_S):
            stream.finish()


# --- thinking ------------------------------------------------------------------------------------------------------


class LlmContract(ProviderContract):
    """A language model that streams."""

    kind = "llm"
    question = "what time is it"

    def messages(self) -> list[Message]:
        """A dialogue with everything that may be in one."""
        call = ToolCall("call_1", "set_volume", {"volume": 30})
        return [
            Message("system", "You are a helpful toy."),
            Message("user", "hello"),
            Message("assistant", "Hi! How are", interrupted=True),
            Message("user", "make it louder"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "done", tool_call_id="call_1"),
            Message("user", self.question),
        ]

    def use(self, provider: Any) -> str:
        answer = list(provider.chat(self.messages(), [], CONTEXT))
        assert all(isinstance(piece, str) and piece for piece in answer)
        return "".join(answer)

    def test_it_answers_with_tools_on_offer(self, it: Subject) -> None:
        for piece in it.provider.chat(self.messages(), [TOOL], CONTEXT):
            assert isinstance(piece, (str, ToolCall))

    def test_one_message_is_enough(self, it: Subject) -> None:
        assert "".join(map(str, it.provider.chat([Message("user", self.question)], [], CONTEXT)))

    def test_leaving_the_answer_frees_the_vendor(self, it: Subject) -> None:
        if it.fail is not None:
            it.fail("stall_after")
        answer = it.provider.chat(self.messages(), [], CONTEXT)
        next(answer)
        answer.close()
        if it.wait_gone is not None:
            it.wait_gone()
        assert self.use(it.provider)

    def test_an_answer_that_was_never_read(self, it: Subject) -> None:
        it.provider.chat(self.messages(), [], CONTEXT).close()


class VllmContract(ProviderContract):
    """A model that looks at pictures."""

    kind = "vllm"
    # The smallest JPEG there is: one grey pixel's headers are enough for every strict loopback vendor.
    image: bytes = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")

    def use(self, provider: Any) -> str:
        answer = provider.describe("What is this?", self.image, "image/jpeg", CONTEXT)
        assert isinstance(answer, str)
        return answer


class VoiceprintContract(ProviderContract):
    """A service that tells speakers apart."""

    kind = "voiceprint"
    pcm: bytes = bytes(range(256)) * 250
    """Two seconds that somebody known has spoken, as far as the vendor is concerned."""

    def use(self, provider: Any) -> Speaker:
        speaker = provider.identify(self.pcm, CONTEXT.device_id).speaker
        assert isinstance(speaker, Speaker)
        return speaker


class MemoryContract(ProviderContract):
    """A memory of a device's owner."""

    kind = "memory"
    visit: tuple[Message, ...] = (
        Message("system", "You are a helpful toy."),
        Message("user", "My cat is called Tofu."),
        Message("assistant", "What a nice name!", tool_calls=(ToolCall("call_1", "set_volume", {"volume": 30}),)),
        Message("tool", "done", tool_call_id="call_1"),
    )

    def use(self, provider: Any) -> tuple[str]:
        # Something comes back even where nothing is remembered.
        text = provider.recall(CONTEXT.device_id, "What is my cat called?")
        assert isinstance(text, str)
        return (text,)

    def test_a_visit_is_remembered_and_only_of_its_device(self, it: Subject) -> None:
        it.provider.save(CONTEXT.device_id, self.visit, CONTEXT.session_id)
        assert ("Tofu" in self.use(it.provider)[0]) is it.provider.traits.remembers
        assert it.provider.recall("another device", "What is my cat called?") == ""

    def test_a_visit_in_which_nothing_was_said(self, it: Subject) -> None:
        it.provider.save(CONTEXT.device_id, (), CONTEXT.session_id)
        it.provider.save(CONTEXT.device_id, self.visit[:1], CONTEXT.session_id)
        assert self.use(it.provider) == ("",)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_faults_while_saving(self, it: Subject, fault: str) -> None:
        if it.fail is None:
            pytest.skip("no vendor")
        it.fail(fault)
        with pytest.raises(FAULTS[fault]) as caught, gevent.Timeout(PATIENCE_S):
            it.provider.save(CONTEXT.device_id, self.visit, CONTEXT.session_id)
        assert "secret-key" not in str(caught.value)


# --- speaking ------------------------------------------------------------------------------------------------------

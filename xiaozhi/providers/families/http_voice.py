"""Voices of services that take one sentence per HTTP request and answer with its sound: all that they share.

    class AcmeTtsOptions(KeyedOptions): ...

    class AcmeTts(HttpVoice):
        def __init__(self, options, services):
            super().__init__(options, services, options.api_url, form="wav")

        def request(self, sentence):
            return {"json": {"text": sentence}}

Not a provider. `tts/openai.py` speaks the protocol that this was drawn from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xiaozhi.chat import CallContext
from xiaozhi.errors import VendorError
from xiaozhi.net.http import HttpReply
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.contracts.tts import SentenceTts, Sound, TtsTraits
from xiaozhi.providers.families.http_options import KeyedOptions
from xiaozhi.providers.families.openai import error_in_answer
from xiaozhi.providers.sound import sounds

_COMPLAINTS = ("code", "message", "msg", "detail", "error_msg", "Exception")
"""Keys of an answer in JSON that is about what went wrong."""


class HttpVoice(SentenceTts):
    """A voice at `url`. `form`: the sound that is asked for; what comes is judged by its content. `sample_rate`: Hz of
    raw PCM."""

    needs_services = True

    def __init__(
        self, options: KeyedOptions, services: Services, url: str, *, form: str, sample_rate: int = 24_000
    ) -> None:
        self._inference = services.inference
        self.url = url
        self.form = form
        self.http = options.client(url)
        self.traits = TtsTraits(streaming=False, sample_rate=sample_rate)

    @property
    def vendor(self) -> str:
        """Its name in errors."""
        return self.http.vendor

    @abstractmethod
    def request(self, sentence: str) -> Mapping[str, Any]:
        """What `VendorHttp.stream` is given beside the address; a `method` or `url` replaces the usual one."""

    def synthesize(self, sentence: str, context: CallContext) -> Iterator[Sound]:
        """The sound of one sentence, as it comes."""
        with self.http.stream(**{"method": "POST", "url": self.url, **self.request(sentence)}) as reply:
            yield from sounds(
                self.body(reply),
                vendor=self.vendor,
                expected=self.form,
                sample_rate=self.traits.sample_rate,
                inference=self._inference,
                content_type=str(reply.headers.get("content-type", "")),
                refusal=self.refusal,
            )

    def body(self, reply: HttpReply) -> Iterable[bytes]:
        """The sound in an answer."""
        return reply.chunks()

    def refusal(self, answer: Any) -> VendorError | None:
        """The error that a JSON answer in place of sound stands for."""
        if not isinstance(answer, dict):
            return None
        error = answer.get("error") or (answer if any(map(answer.get, _COMPLAINTS)) else None)
        return error_in_answer(self.vendor, error) if error else None

    def close(self) -> None:
        """Break off what runs."""
        self.http.close()


def as_sent(options: ProviderOptions, names: Iterable[str]) -> dict[str, Any]:
    """The options that go into a request under their own names. (`model_dump` would take the key that another spelling
    has replaced, because unknown keys are kept.)"""
    return {name: getattr(options, name) for name in names}

"""PocketSphinx over the phrases of `config/offline.yaml`: English, on this machine, without a network and with no model
to fetch.

Not a recogniser of free speech: it hears its phrases, and anything else is refused rather than guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from xiaozhi.chat import CallContext
from xiaozhi.errors import Fault
from xiaozhi.providers.contracts.asr import AsrTraits, BatchAsr, Transcript
from xiaozhi.providers.contracts.provider import ProviderOptions, Services
from xiaozhi.providers.families.phrase_listener import PhraseListener, faults_of
from xiaozhi.providers.registry import provider


class PocketsphinxAsrOptions(ProviderOptions):
    """`phrases`: a file of config/. `tolerance`: how unlike a phrase what was heard may be (0: not at all; more: fewer
    refusals, more mistakes). `longest_s`: longer speech is no phrase and costs nothing. `unheard_reply`: spoken when
    something was said that is no phrase; empty: silence."""

    phrases: Path = Path("offline.yaml")
    unheard_reply: str = "Sorry, I did not understand that. Ask me: what can you do?"
    tolerance: float = Field(0.15, ge=0, le=0.6)
    longest_s: float = Field(8.0, ge=1, le=30)
    timeout: float = Field(10.0, gt=0, le=60)


@provider("asr", "pocketsphinx", PocketsphinxAsrOptions)
class PocketsphinxAsr(BatchAsr):
    """Listens for phrases in the inference pool (kind "asr")."""

    needs_services: ClassVar[bool] = True
    traits = AsrTraits(offline=True, streaming=False)

    def __init__(self, options: PocketsphinxAsrOptions, services: Services) -> None:
        """Raises SettingsError: the phrase file, or words that nobody can pronounce."""
        self._timeout = options.timeout
        self.traits = replace(self.traits, unheard_reply=options.unheard_reply)
        self._listener = PhraseListener(
            services.config_dir / options.phrases,
            services.inference,
            name=options.phrases.name,
            tolerance=options.tolerance,
            longest_s=options.longest_s,
        )

    @classmethod
    def faults(cls, options: PocketsphinxAsrOptions, config_dir: Path) -> list[Fault]:
        """Those of the phrase file, and words that nobody can pronounce."""
        return faults_of(options.phrases, config_dir)

    def warm_up(self) -> None:
        """Load the model once, so that a fault shows now. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        self._listener.warm_up()

    def transcribe(self, pcm: bytes, context: CallContext) -> Transcript:
        """The phrase that was said, or an empty text. Raises VendorUnavailable, VendorTimeout, Overloaded."""
        return self._listener.hear(pcm, self._timeout)

    def close(self) -> None:
        self._listener.close()

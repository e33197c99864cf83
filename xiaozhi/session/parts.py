"""The parts of one session, made when they are first needed: outbox, listener, voice, tools, dialogue.

Not the behaviour of a session (`session.py` has that): here is only how each part is made from the services, the agent
and the device's hello, and how all of them are given back."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final

from xiaozhi.chat import CallContext, Message
from xiaozhi.protocol import close_codes
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.frames import FrameCodec, codec_for
from xiaozhi.runtime.logs import get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.agent import Agent
from xiaozhi.session.late_answers import SessionTeller
from xiaozhi.session.line import SessionLine
from xiaozhi.session.link import Link
from xiaozhi.session.listening.echo import LoudspeakerEcho
from xiaozhi.session.listening.end_of_turn import Witnesses
from xiaozhi.session.listening.listener import Listener, ListenerOptions, ListenerSink
from xiaozhi.session.said import Said
from xiaozhi.session.services import SessionServices
from xiaozhi.session.speaking.encoder import VoiceFormat
from xiaozhi.session.speaking.outbox import Outbox
from xiaozhi.session.speaking.voice import DeviceVoice
from xiaozhi.session.turn_record import Speculation
from xiaozhi.session.turns.answer_cache import AnswerCache
from xiaozhi.session.turns.dialogue import Dialogue
from xiaozhi.session.turns.pipeline import Briefing, PipelineParts
from xiaozhi.session.turns.voices import Voices
from xiaozhi.settings.boards import BoardTraits
from xiaozhi.speech.end_of_turn import SilenceBounds
from xiaozhi.speech.language import named_language, spoken_language
from xiaozhi.speech.line_quality import Lead
from xiaozhi.tools.base import SessionActions, ToolContext
from xiaozhi.tools.device_iot import DeviceIot
from xiaozhi.tools.device_mcp import DeviceMcp
from xiaozhi.tools.late_calls import LateAnswering, LateSource
from xiaozhi.tools.toolbox import Toolbox, ToolLimits

log = get_logger(__name__)

NO_HELLO = "no hello: send a message of type hello before sound and listen"
LEAD_MS: Final = {Speculation.OFF: 0, Speculation.ASR: 500, Speculation.LLM: 1_500}
"""What preparing takes with usual vendors: recognition, and the answer up to the sound of its first sentence."""
LANGUAGE_TURNS: Final = 3
"""So many questions back the language of a conversation is looked for."""


class SessionParts:
    """See the module. `agent`: the default one, to begin with."""

    def __init__(
        self,
        link: Link,
        services: SessionServices,
        agent: Agent,
        context: CallContext,
        tasks: Tasks,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.agent = agent
        self._link = link
        self._services = services
        self._context = context
        self._tasks = tasks
        self._clock = clock
        self._opened_at = clock()
        self._speaker: DeviceVoice | None = None
        self._dialogue: Dialogue | None = None
        self._toolbox: Toolbox | None = None
        self.voices = self._new_voices()
        self.role = ""
        """Takes the place of the configured prompt, when it is not empty."""
        self.said = Said()
        """For the memory."""
        self.hello: wire.Hello | None = None
        identity = link.identity
        self.codec: FrameCodec = codec_for(
            identity.protocol_version, identity.via_gateway, udp=identity.udp is not None
        )
        self.voice = self._voice()
        board = self._board()
        self.line = SessionLine(Lead(board.prebuffer_frames, board.max_prebuffer_frames), link.line)
        services.lines.joined(context.device_id, self.line)
        self.outbox = self._new_outbox()
        self.listener: Listener | None = None
        self.mcp: DeviceMcp | None = None
        self.iot: DeviceIot | None = None

    def adopt_agent(self, agent: Agent) -> None:
        """Work with this agent from now on. Of the default one nothing may be in use but the outbox, and what a device
        that had to wait was told with."""
        default, self.agent = self.agent, agent
        self.voices = self._new_voices()
        self._speaker = self._toolbox = None
        default.release()

    @property
    def prepares(self) -> bool:
        """Whether pauses are used to prepare answers."""
        return self.agent.settings.conversation.speculative != "off"

    # --- what the device told -----------------------------------------------------------------------------------------

    def adopt(self, hello: wire.Hello) -> None:
        """Make what follows fit what the device says of itself. Parts that would not fit any more are made anew."""
        self.hello = hello
        self.voice = self._voice()
        self.line.arrivals.restart(hello.audio.frame_duration / 1000)
        self._speaker = None
        self.outbox.close()
        self.outbox = self._new_outbox()
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def hello_reply(self) -> wire.HelloReply:
        """The answer to hello."""
        udp, voice = self._link.identity.udp, self.voice
        audio = wire.AudioParams(voice.format, voice.sample_rate, 1, voice.frame_ms)
        return wire.HelloReply(audio) if udp is None else wire.HelloReply(audio, "udp", 3, udp=udp)

    def hello_overdue(self, now: float) -> bool:
        """Whether the device has been talking for too long without having said hello; one that only waits or pings
        may take its time."""
        talks = self.listener is not None or self.iot is not None
        return talks and self.hello is None and now - self._opened_at > self.agent.settings.server.hello_timeout

    def spoken_with(self, mode: wire.ListenMode) -> bool:
        """Whether somebody is there to be said goodbye to. A device with a button that nobody has pressed to speak is
        not a conversation."""
        if self.hello is None or mode is not wire.ListenMode.MANUAL:
            return self.hello is not None
        return self.listener is not None and self.listener.stats.utterances > 0

    @property
    def emotes(self) -> bool:
        """Whether the device draws faces."""
        return self.hello is None or self.hello.features.emoji

    def _voice(self) -> VoiceFormat:
        params = self.agent.settings.xiaozhi.audio_params
        audio = self.hello.audio if self.hello is not None else None
        fmt = audio.format if audio is not None and audio.format in ("opus", "pcm") else params.format
        frame_ms = (
            audio.frame_duration
            if audio is not None and audio.frame_duration in (20, 40, 60)
            else params.frame_duration
        )
        return VoiceFormat(fmt, params.sample_rate, frame_ms)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _new_outbox(self) -> Outbox:
        link = self._link
        return Outbox(
            send_text=link.send_text,
            send_binary=link.send_binary,
            codec=self.codec,
            session_id=self._context.session_id,
            frame_ms=self.voice.frame_ms,
            tasks=self._tasks,
            prebuffer_frames=self._board().prebuffer_frames,
            lead=functools.partial(self.line.next_lead, self.voice.frame_ms),
            stats=self.line.sent,
            fixed_delay_ms=self.agent.settings.tts_audio_send_delay,
            on_frame=self._services.telemetry.frame_sent,
            on_overflow=lambda reason: link.close(close_codes.GOING_AWAY, reason),
            clock=self._clock,
        )

    def _board(self) -> BoardTraits:
        identity = self._link.identity
        names = self._services.boards.names(identity.device_id)
        return self.agent.settings.board_for((*names, identity.user_agent))

    def _on_server_name(self, name: str) -> None:
        """The device says what it is only now: what its board needs holds from the next answer on."""
        self._services.boards.learn(self._link.identity.device_id, (name,))
        board = self._board()
        self.outbox.prebuffer_frames = board.prebuffer_frames
        self.line.lead.bound(board.prebuffer_frames, board.max_prebuffer_frames)
        # One that is at work stays: the segment under way has it, and must go on to know what is sent.
        if self.listener is not None and self._cancels_echo() is (self.listener.canceller is None):
            self.listener.canceller = self._new_canceller()

    def _cancels_echo(self) -> bool:
        setting = self._board().echo
        return setting == "on" or (setting == "auto" and self.hello is not None and self.hello.features.aec)

    def _new_canceller(self) -> LoudspeakerEcho | None:
        if not self._cancels_echo():
            self.outbox.on_sent = None
            return None
        voice = self.voice
        canceller = LoudspeakerEcho(
            self._services.inference,
            frame_ms=voice.frame_ms,
            audio_format=voice.format,
            sample_rate=voice.sample_rate,
            clock=self._clock,
        )
        self.outbox.on_sent = canceller.sent
        return canceller

    def _new_voices(self) -> Voices | None:
        voiceprint, identity = self.agent.providers.voiceprint, self._link.identity
        if voiceprint is None:
            return None
        wait_s, remembered_as = self.agent.settings.voiceprint.wait_seconds, self._services.remembered_as
        return Voices(voiceprint, wait_s, lambda: remembered_as(identity))

    def speaker(self) -> DeviceVoice:
        """The voice."""
        if self._speaker is None:
            services = self._services
            self._speaker = DeviceVoice(
                outbox=self.outbox,
                inference=services.inference,
                replies=services.speech_cache,
                clips=services.clips,
                voice=self.voice,
                chime=self.agent.settings.stop_tts_notify_voice,
            )
        return self._speaker

    def open_listener(self, sink: ListenerSink, mode: wire.ListenMode) -> Listener:
        """The listener; a new one begins to listen in `mode` and tells `sink`."""
        if self.listener is None:
            services, providers, witnesses = self._services, self.agent.providers, self._witnesses()
            self.listener = Listener(
                vad=providers.vad,
                asr=providers.asr,
                context=self._context,
                options=self.listener_options(judged=witnesses is not None),
                sink=sink,
                tasks=self._tasks,
                on_drop=lambda: services.telemetry.dropped("microphone"),
                canceller=self._new_canceller(),
                arrivals=self.line.arrivals,
                witnesses=witnesses,
                clock=self._clock,
            )
            self.listener.start(mode)
        return self.listener

    def _witnesses(self) -> Witnesses | None:
        """Who is asked in a pause whether the user has finished; None: nobody."""
        settings, providers = self.agent.settings, self.agent.providers
        # Words come from a prepared turn, or from a recogniser that works while the user speaks.
        words = settings.turn.languages if self.prepares or providers.asr.traits.streaming else ()
        if not words and providers.end_of_turn is None:
            return None
        named = named_language(settings.language)
        return Witnesses(
            model=providers.end_of_turn,
            words=frozenset(words),
            bounds=SilenceBounds(settings.turn.min_silence_ms, settings.turn.max_silence_ms),
            language=lambda: named or self.language(""),
        )

    def listener_options(self, *, judged: bool = False) -> ListenerOptions:
        """How this device is heard, with this agent's settings. `judged`: somebody is asked about pauses."""
        conversation = self.agent.settings.conversation
        audio = self.hello.audio if self.hello is not None else wire.AudioParams()
        pause_ms = None if conversation.pause_ms == "auto" else conversation.pause_ms
        return ListenerOptions(
            audio_format=audio.format,
            sample_rate=audio.sample_rate,
            channels=audio.channels,
            max_utterance_ms=conversation.max_utterance_ms,
            pre_roll_frames=conversation.pre_roll_frames,
            min_utterance_frames=conversation.min_utterance_frames,
            pause_ms=pause_ms if self.prepares or judged else 0,
            lead_ms=LEAD_MS[Speculation(conversation.speculative)],
            asr_deadline=self.agent.settings.asr_timeout,
            keeps_packets=self.agent.settings.history.mode == "sound",
        )

    def toolbox(self) -> Toolbox:
        """The tools on offer."""
        if self._toolbox is None:
            agent, services = self.agent, self._services
            conversation = agent.settings.conversation
            late = LateAnswering(
                services.late.calls,
                SessionTeller(services.late, services.sessions, agent),
                conversation.late_answer_seconds,
                conversation.late_answer_limit,
            )
            self._toolbox = Toolbox(
                agent.plugins,
                *agent.shared_tools,
                LateSource(late.calls, self._context.device_id),
                limits=ToolLimits(call_timeout=agent.settings.tool_call_timeout),
                spawn=services.lasting.spawn,
                observe=services.telemetry.tool_called,
                late=late,
            )
        return self._toolbox

    def device_mcp(self) -> DeviceMcp:
        """The device's own tools (MCP)."""
        if self.mcp is None:
            identity = self._link.identity
            self.mcp = DeviceMcp(
                lambda payload: self.outbox.urgent(wire.Mcp(payload)),
                self._tasks,
                on_server_name=self._on_server_name,
                on_signal=lambda rssi, weak: self._services.lines.signal(identity.device_id, rssi, weak=weak),
                through_gateway=identity.via_gateway,
            )
            self.toolbox().add(self.mcp)
            # Also without a vision model: clients exist that fail without the address, and it answers in a sentence.
            self.mcp.start(self._services.vision(identity))
        return self.mcp

    def device_iot(self) -> DeviceIot:
        """The things of older firmware."""
        if self.iot is None:
            self.iot = DeviceIot(lambda commands: self.outbox.urgent(wire.IotCommands(tuple(commands))))
            self.toolbox().add(self.iot)
        return self.iot

    # --- what was said ------------------------------------------------------------------------------------------------

    def dialogue(self) -> Dialogue:
        """What was said, in this session and in one that ended a moment ago."""
        if self._dialogue is None:
            conversation = self.agent.settings.conversation
            self._dialogue = Dialogue(max_turns=conversation.history_turns, max_tokens=conversation.history_tokens)
            kept = self._services.resume.take(self._context.device_id, self._context.client_id)
            if kept is not None and not self._dialogue.restore(kept):
                log.warning("dialogue of the last session cannot be read")
        return self._dialogue

    def remember(self, script: Sequence[Message]) -> None:
        """What a turn has left goes into the dialogue; and where the device would look for it that comes back to
        another worker before this one knows that it has left."""
        dialogue = self.dialogue()
        dialogue.append(*script)
        self._services.resume.save(self._context.device_id, self._context.client_id, dialogue.snapshot())

    def language(self, text: str) -> str:
        """The language of the conversation, by `text` ("" while it is not known) and what was said last; "" when that
        shows none."""
        said = (message.content for message in reversed(self.dialogue().messages()) if message.role == "user")
        return spoken_language(text, *itertools.islice(said, LANGUAGE_TURNS))

    @property
    def known_dialogue(self) -> Dialogue | None:
        """The dialogue, if there is one yet."""
        return self._dialogue

    def for_pipeline(self, context: CallContext, actions: SessionActions) -> PipelineParts:
        """What answers one turn."""
        identity = self._link.identity
        return PipelineParts(
            providers=self.agent.providers,
            toolbox=self.toolbox(),
            tool_context=ToolContext(
                identity.device_id,
                context.session_id,
                actions,
                context.client_id,
                context.language,
                identity.peer_ip,
                self._services.remembered_as(identity),
            ),
            brief=self.brief,
            # Who asks matters: nobody gets an answer that was made for somebody else.
            answers=self.agent.answers if self.voices is None else None,
            voices=self.voices,
        )

    def brief(self, question: str) -> Briefing:
        """What the language model is told before a question. May block for the memory."""
        agent, role = self.agent, self.role
        identity, prompter = self._link.identity, agent.prompter
        prompter.await_context(identity)
        remembered = prompter.recall(agent.providers.memory, self._services.remembered_as(identity), question)
        system = prompter.system_prompt(identity, role, remembered, emoji=self.emotes)
        past = self.dialogue().messages()
        key = ""
        if agent.answers is not None and not past and question:
            key = AnswerCache.key(
                question,
                model=agent.providers.names.get("llm", agent.providers.llm.name),
                prompt=prompter.system_prompt(identity, role, remembered, emoji=self.emotes, timeless=True),
                tools=(spec.name for spec in self.toolbox().specs()),
            )
        return Briefing([Message("system", system), *past], key)

    @property
    def held_bytes(self) -> int:
        """A rough measure of the memory that all of it takes."""
        listening = self.listener.queued_bytes if self.listener is not None else 0
        talking = self._dialogue.size_bytes if self._dialogue is not None else 0
        tools = (self.iot.held_bytes if self.iot else 0) + (self.mcp.held_bytes if self.mcp else 0)
        return listening + talking + tools + self.said.held_bytes + self.outbox.queued_bytes

    def trim(self) -> None:
        """Give back memory: buffered audio and old history."""
        if self.listener is not None:
            self.listener.reset()
        if self._dialogue is not None:
            self._dialogue.trim(turns=10)

    def close(self, *, broken: bool = False) -> None:
        """Give everything back; once. `broken`: the connection was lost, without a goodbye."""
        self._services.lines.left(self._context.device_id, self.line, broken=broken)
        if self.listener is not None:
            self.listener.close()
        if self.mcp is not None:
            self.mcp.close()
        if self.iot is not None:
            self.iot.close()
        self.outbox.close()

    def release(self) -> None:
        """After `close`: part with whatever refers back here."""
        self.mcp = self.iot = self.listener = None
        self._toolbox = self._speaker = None

"""One device's visit: what it announced, what it may do, its dialogue, and the turn under way.

What the connection tells it (`VisitHandler`, in the reader's greenlet) is decided here and handed on; nothing waits for a vendor, so an
abort is heard while everything else is stuck. Not a place for sound, sockets or prompts; who may speak is `floor.py`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from xiaozhi.chat import CallContext, Message
from xiaozhi.errors import Overloaded, ProtocolError
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.frames import FrameCodec, codec_for
from xiaozhi.runtime.logs import bind_context, get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.answer import AnswerParts
from xiaozhi.session.dialogue import Dialogue
from xiaozhi.session.floor import Floor
from xiaozhi.session.kit import SessionKit
from xiaozhi.session.listener import Listener, ListenerOptions, Utterance
from xiaozhi.session.outbox import Outbox
from xiaozhi.session.record import Outcome, TurnOptions, TurnRecord
from xiaozhi.session.router import Router
from xiaozhi.session.speaker import Speaker, VoiceFormat
from xiaozhi.session.turn import Turn, TurnHooks
from xiaozhi.session.visit import Visit
from xiaozhi.session.wakeup import is_exit, is_wake_word, pick_greeting
from xiaozhi.tools.base import ToolContext
from xiaozhi.tools.device_iot import DeviceIot
from xiaozhi.tools.device_mcp import DeviceMcp
from xiaozhi.tools.toolbox import Toolbox, ToolLimits

log = get_logger(__name__)

JUST_WOKEN_SECONDS = 2.0
HARD_CLOSE_SECONDS = 60.0
CALL_PREFIX = "[device_call]"
CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
EXIT_LINGER_SECONDS = 0.2
# Far above what a visit needs; a babbling device gets no further.
MAX_TASKS = 32
# Longer than any silence that ends an utterance: nothing is prepared.
NO_PAUSE_MS = 60_000


class Session:
    """See the module. Made when the socket is open; `closed` ends it."""

    def __init__(
        self, visit: Visit, kit: SessionKit, *, on_closed: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        identity = visit.identity
        self.id = secrets.token_hex(16)
        self.device_id = identity.device_id
        self._visit = visit
        self._kit = kit
        self._on_closed = on_closed
        self._clock = clock
        self._tasks = Tasks()
        self._router = Router(self)
        self._codec: FrameCodec = codec_for(identity.protocol_version, identity.via_gateway)
        self._hello: wire.Hello | None = None
        self._context = CallContext(device_id=identity.device_id, client_id=identity.client_id, session_id=self.id)
        self._board = kit.settings.board_for(identity.user_agent)
        self._outbox = self._new_outbox()
        self._listener: Listener | None = None
        self._speaker: Speaker | None = None
        self._toolbox: Toolbox | None = None
        self._mcp: DeviceMcp | None = None
        self._iot: DeviceIot | None = None
        self._dialogue: Dialogue | None = None
        self._prompt_override = ""
        self._floor = Floor(self._new_turn, accepts=self._accepts_turns, barges_in=self._barges_in)
        self._turn_count = 0
        self._hooks = TurnHooks(refusal=self._refusal, on_text=self._on_turn_text, on_end=self._on_turn_end)
        self._mode = wire.ListenMode.AUTO
        self._draining = False
        self._leaving = False
        self._said_goodbye = False
        self._ended = False
        self.binary_faults = 0
        self.last_voice_at = clock()
        bind_context(session=self.id[:8], device=self.device_id)

    # --- what the connection tells ----------------------------------------------------------------------------------

    def on_text(self, text: str) -> None:
        """One JSON message."""
        self._router.route(text)

    def on_binary(self, data: bytes) -> None:
        """One binary frame."""
        try:
            frame = self._codec.unpack(data)
        except ProtocolError:
            self.binary_faults += 1
            return
        if frame.kind == "json":
            self._router.route(frame.payload.decode("utf-8", "replace"))
            return
        self._ears().hear(frame.payload, frame.timestamp_ms)

    def drain(self, seconds: float) -> None:
        """Take no new turns; let the current answer finish, at most `seconds`."""
        self._draining = True
        turn = self._floor.current
        if turn is not None and not turn.ended:
            turn.wait(seconds)

    def closed(self, reason: str) -> None:
        """The socket is gone."""
        if self._ended:
            return
        self._ended = True
        self._floor.interrupt(reason)
        if self._listener is not None:
            self._listener.close()
        if self._mcp is not None:
            self._mcp.close()
        self._outbox.close()
        self._tasks.kill()
        dialogue = self._dialogue
        if dialogue is not None and dialogue.turns:
            self._kit.resume.put(self.device_id, dialogue.snapshot())
            self._kit.memories.save(self._kit.providers.memory, self.device_id, dialogue.messages(), self.id)
        self._on_closed()
        log.info("session ended", reason=reason, turns=self._turn_count)

    def tick(self, now: float) -> None:
        """Once a second or so: silence. Says goodbye after `close_connection_no_voice_time`, closes for good a minute later."""
        limit = self._kit.settings.close_connection_no_voice_time
        if limit <= 0 or self._ended:
            return
        if self._listener is not None:
            self.last_voice_at = max(self.last_voice_at, self._listener.last_voice_at)
        if self.speaking:
            self.last_voice_at = now if not self._said_goodbye else self.last_voice_at
        silent = now - self.last_voice_at
        if silent > limit + HARD_CLOSE_SECONDS:
            self._visit.close(CLOSE_NORMAL, "no voice")
        elif silent > limit and not self._said_goodbye:
            self._said_goodbye = True
            end_prompt = self._kit.settings.end_prompt
            if end_prompt.enable and self._hello is not None and not self._draining:
                self._leaving = True
                self._floor.begin(extra_prompt=end_prompt.prompt)
            else:
                self._visit.close(CLOSE_NORMAL, "no voice")

    @property
    def speaking(self) -> bool:
        """True while an answer is being spoken."""
        return self._floor.speaking

    @property
    def queued_bytes(self) -> int:
        """A rough measure of what this visit holds in memory, for the over-budget sweep."""
        listening = self._listener.queued_bytes if self._listener is not None else 0
        talking = self._dialogue.size_bytes if self._dialogue is not None else 0
        return listening + talking + self._outbox.queued_bytes

    @property
    def queue_depth(self) -> int:
        """Things waiting in this visit's queues."""
        return self._outbox.queued_frames + len(self._tasks)

    def trim(self) -> None:
        """Give back memory: buffered audio and old history."""
        if self._listener is not None:
            self._listener.reset()
        if self._dialogue is not None:
            self._dialogue.trim(turns=10)

    # --- messages ---------------------------------------------------------------------------------------------------

    def on_hello(self, message: wire.Hello) -> None:
        """Answer at once; everything that takes time starts behind it."""
        if not self._visit.identity.via_gateway:
            # Header and hello should agree; firmware that sets only one of them means that one.
            self._codec = codec_for(max(message.version or 1, self._visit.identity.protocol_version), False)
        first = self._hello is None
        self._hello = message
        if not first:
            self._floor.interrupt("hello again")
        self._outbox.close()
        self._outbox = self._new_outbox()
        self._speaker = None
        voice = self._voice()
        self._outbox.urgent(
            wire.HelloReply(audio=wire.AudioParams(voice.format, voice.sample_rate, 1, voice.frame_ms), transport="websocket"),
        )
        if message.features.mcp and self._mcp is None:
            self._mcp = DeviceMcp(self._send_mcp, self._tasks)
            self._toolbox_ready().add(self._mcp)
            self._mcp.start(self._kit.vision(self._visit.identity))

    def on_listen(self, message: wire.Listen) -> None:
        """start, stop, or a detected wake word / typed text."""
        if message.mode is not None:
            self._mode = message.mode
        match message.state:
            case wire.ListenState.START:
                self._floor.interrupt("listen start")
                self._stay()
                self._ears().start(self._mode)
            case wire.ListenState.STOP:
                self._ears().stop()
            case wire.ListenState.DETECT:
                self._detected(message.text)

    def on_abort(self, message: wire.Abort) -> None:
        """Stop speaking now."""
        if not self._floor.interrupt(f"abort {message.reason}".strip()):
            # The device waits for it even if there was nothing left to stop.
            self._outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))

    def on_mcp(self, message: wire.Mcp) -> None:
        """The device answers a tool call, or tells something."""
        if self._mcp is not None:
            self._mcp.on_payload(message.payload)

    def on_iot(self, message: wire.Iot) -> None:
        """Older firmware's things."""
        if self._iot is None:
            self._iot = DeviceIot(self._send_iot)
            self._toolbox_ready().add(self._iot)
        if message.descriptors:
            self._iot.on_descriptors(message.descriptors)
        if message.states:
            self._iot.on_states(message.states)

    def on_ping(self) -> None:
        """An application-level ping."""
        self._outbox.urgent(wire.Pong(int(time.time() * 1000)))

    def on_goodbye(self) -> None:
        """The device ends the session."""
        self._floor.interrupt("goodbye")
        self._visit.close(CLOSE_NORMAL, "goodbye")

    def on_server_command(self, message: wire.ServerCommand) -> None:
        """An order of the management API; may take long, so not in the reader."""
        if len(self._tasks) < MAX_TASKS:
            self._tasks.spawn("server-command", self._obey, message)

    def echo(self, text: str) -> None:
        """Text that is no message goes back as it came."""
        if len(self._tasks) < MAX_TASKS:
            self._tasks.spawn("echo", self._visit.send_text, text)

    # --- turns ------------------------------------------------------------------------------------------------------

    def _detected(self, text: str) -> None:
        self._floor.interrupt("wake word")
        self._stay()
        if not self._accepts_turns():
            return
        settings = self._kit.settings
        ears = self._ears()
        ears.reset()
        if text.startswith(CALL_PREFIX):
            self._floor.begin(fixed=text.removeprefix(CALL_PREFIX).strip())
        elif is_wake_word(text, settings.wakeup_words):
            ears.ignore_until(self._clock() + JUST_WOKEN_SECONDS)
            if not settings.enable_greeting:
                self._outbox.urgent(wire.Stt(text))
                self._outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))
            elif settings.enable_wakeup_words_response_cache:
                self._floor.begin(text=text, fixed=pick_greeting(text))
            else:
                self._floor.begin(text=text)
        elif text.strip():
            self._floor.begin(text=text.strip())

    def _stay(self) -> None:
        """The user came back during the goodbye that silence had brought about."""
        self.last_voice_at = self._clock()
        if self._said_goodbye:
            self._said_goodbye = self._leaving = False

    def _accepts_turns(self) -> bool:
        return not (self._draining or self._ended or self._leaving)

    def _barges_in(self) -> bool:
        return self._mode is wire.ListenMode.REALTIME

    def _new_turn(self, *, utterance: Utterance | None = None, text: str = "", fixed: str = "", extra_prompt: str = "") -> Turn:
        self._turn_count += 1
        kit = self._kit
        toolbox = self._toolbox_ready()
        context = CallContext(self.device_id, self._context.client_id, self.id, self._turn_count, self._context.language)
        parts = AnswerParts(
            providers=kit.providers,
            toolbox=toolbox,
            tool_context=ToolContext(
                device_id=self.device_id, session_id=self.id, client_id=context.client_id, language=context.language, actions=self
            ),
            context=context,
            options=TurnOptions.of(kit.settings, emotes=self._hello is None or self._hello.features.emoji),
            history=self._history,
            spend=self._spend,
            extra_prompt=extra_prompt,
        )
        return Turn(
            self._turn_count,
            parts=parts,
            speaker=self._voice_out(),
            outbox=self._outbox,
            hooks=self._hooks,
            utterance=utterance,
            text=text,
            fixed=fixed,
            clock=self._clock,
        )

    def _on_turn_text(self, text: str) -> bool:
        """The turn knows what was said: exit commands end the visit here; otherwise the ears rest while the server speaks."""
        if text and is_exit(text, self._kit.settings.exit_commands):
            self._outbox.urgent(wire.Stt(text))
            self._leave("exit command")
            return False
        if self._mode is not wire.ListenMode.REALTIME and self._listener is not None:
            self._listener.pause()
        return True

    def _on_turn_end(self, turn: Turn, record: TurnRecord) -> None:
        if record.outcome is not Outcome.UNHEARD:
            self._history_ready().append(*record.script)
        self._kit.observe(self.device_id, record)
        if turn is not self._floor.current:
            return
        if self._listener is not None:
            self._listener.resume()
        if self._leaving and record.outcome is not Outcome.INTERRUPTED:
            self._leave("goodbye said")

    def _leave(self, reason: str) -> None:
        self._leaving = True
        self._tasks.spawn_later(EXIT_LINGER_SECONDS, "leave", self._visit.close, CLOSE_NORMAL, reason)

    def _refusal(self) -> str:
        self._kit.admit_turn()
        if self._draining:
            raise Overloaded("server draining")
        left = self._kit.quota.left(self.device_id)
        return self._kit.prompter.quota_refusal if left is not None and left <= 0 else ""

    def _spend(self, characters: int) -> None:
        self._kit.quota.spend(self.device_id, characters)

    # --- actions tools may ask for (tools.base.SessionActions) ---------------------------------------------------------

    def close_after_reply(self) -> None:
        """Close the visit when the current answer has been spoken."""
        self._leaving = True

    def set_prompt(self, text: str) -> None:
        """Another role, until the visit ends."""
        self._prompt_override = text

    def play(self, path: Path) -> None:
        """Play a sound file after what is being said."""
        if self._floor.current is not None:
            self._floor.current.play(path)

    # --- parts, made when first needed --------------------------------------------------------------------------------

    def _voice(self) -> VoiceFormat:
        params = self._kit.settings.xiaozhi.audio_params
        audio = self._hello.audio if self._hello is not None else None
        fmt = audio.format if audio is not None and audio.format in ("opus", "pcm") else "opus"
        frame_ms = audio.frame_duration if audio is not None and audio.frame_duration in (20, 40, 60) else params.frame_duration
        return VoiceFormat(fmt, params.sample_rate, frame_ms)

    def _new_outbox(self) -> Outbox:
        visit = self._visit
        return Outbox(
            send_text=visit.send_text,
            send_binary=visit.send_binary,
            codec=self._codec,
            session_id=self.id,
            frame_ms=self._voice().frame_ms,
            tasks=self._tasks,
            prebuffer_frames=self._board.prebuffer_frames,
            fixed_delay_ms=self._kit.settings.tts_audio_send_delay,
            on_frame=self._kit.on_frame,
            on_overflow=lambda reason: visit.close(CLOSE_GOING_AWAY, reason),
            clock=self._clock,
        )

    def _voice_out(self) -> Speaker:
        if self._speaker is None:
            kit = self._kit
            self._speaker = Speaker(outbox=self._outbox, inference=kit.inference, replies=kit.replies, voice=self._voice())
        return self._speaker

    def _ears(self) -> Listener:
        if self._listener is None:
            kit = self._kit
            self._listener = Listener(
                vad=kit.providers.vad,
                asr=kit.providers.asr,
                inference=kit.inference,
                context=self._context,
                options=self._listener_options(),
                sink=self._floor,
                tasks=self._tasks,
                clock=self._clock,
            )
            self._listener.start(self._mode)
        return self._listener

    def _listener_options(self) -> ListenerOptions:
        conversation = self._kit.settings.conversation
        audio = self._hello.audio if self._hello is not None else wire.AudioParams()
        return ListenerOptions(
            audio_format=audio.format,
            sample_rate=audio.sample_rate,
            channels=audio.channels,
            max_utterance_ms=conversation.max_utterance_ms,
            pre_roll_frames=conversation.pre_roll_frames,
            min_utterance_frames=conversation.min_utterance_frames,
            pause_ms=conversation.pause_ms if conversation.speculative != "off" else NO_PAUSE_MS,
            asr_deadline=self._kit.settings.asr_timeout,
        )

    def _toolbox_ready(self) -> Toolbox:
        if self._toolbox is None:
            kit = self._kit
            self._toolbox = Toolbox(kit.plugins, limits=ToolLimits(call_timeout=kit.settings.tool_call_timeout), spawn=kit.lasting.spawn)
        return self._toolbox

    def _history_ready(self) -> Dialogue:
        if self._dialogue is None:
            conversation = self._kit.settings.conversation
            self._dialogue = Dialogue(max_turns=conversation.history_turns, max_tokens=conversation.history_tokens)
            kept = self._kit.resume.take(self.device_id)
            if kept is not None and not self._dialogue.restore(kept):
                log.warning("dialogue of the last visit cannot be read")
        return self._dialogue

    def _history(self, query: str) -> list[Message]:
        """System prompt and past, for the language model. May block for the memory provider, in the turn's greenlet."""
        system = self._kit.prompter.system_prompt(self._visit.identity, self._prompt_override, self._kit.providers.memory, query, emoji=self._hello is None or self._hello.features.emoji)
        return [Message("system", system), *self._history_ready().messages()]

    # --- small senders --------------------------------------------------------------------------------------------------

    def _send_mcp(self, payload: dict[str, object]) -> None:
        self._outbox.urgent(wire.Mcp(payload))

    def _send_iot(self, commands: list[dict[str, object]]) -> None:
        self._outbox.urgent(wire.IotCommands(tuple(commands)))

    def _obey(self, message: wire.ServerCommand) -> None:
        self._outbox.urgent(self._kit.server_command(message, self._visit.identity.peer_ip))

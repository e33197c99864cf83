"""One device's visit: what it announced, what it may do, its dialogue, and the turn under way.

What the connection tells it (`LinkHandler`, in the reader's greenlet) is decided here and handed on; nothing waits for
a vendor, so an abort is heard while everything else is stuck. Not a place for sound, sockets or prompts; who may speak
is `floor.py`, how the parts are built is `equipment.py`."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from xiaozhi.chat import CallContext, Message
from xiaozhi.errors import Overloaded, ProtocolError
from xiaozhi.protocol import close_codes
from xiaozhi.protocol import messages as wire
from xiaozhi.runtime.logs import bind_context, get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.link import Link, Weight
from xiaozhi.session.listening.listener import Listener
from xiaozhi.session.messages import MessageRouter
from xiaozhi.session.parts import SessionParts
from xiaozhi.session.services import SessionServices
from xiaozhi.session.turn_record import Outcome, TurnOptions, TurnRecord
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.pipeline import PipelineParts
from xiaozhi.session.turns.turn import Turn, TurnHooks
from xiaozhi.session.turns.turn_taking import TurnTaking
from xiaozhi.session.turns.wakeup import is_exit, is_wake_word, pick_greeting
from xiaozhi.tools.base import ToolContext

log = get_logger(__name__)

JUST_WOKEN_SECONDS = 2.0
HARD_CLOSE_SECONDS = 60.0
CALL_PREFIX = "[device_call]"
EXIT_LINGER_SECONDS = 0.2
FLUSH_SECONDS = 1.0
# Far above what a visit needs; a babbling device gets no further.
MAX_TASKS = 32
MAX_REMEMBERED = 400
"""Messages of one visit that are handed to the memory when it ends."""


class Session:
    """See the module. Made when the socket is open; `closed` ends it."""

    def __init__(
        self,
        visit: Link,
        kit: SessionServices,
        *,
        on_closed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        identity = visit.identity
        self.id = secrets.token_hex(16)
        self.device_id = identity.device_id
        self._visit = visit
        self._kit = kit
        self._on_closed = on_closed
        self._clock = clock
        self._tasks = Tasks()
        self._router = MessageRouter(self)
        self._context = CallContext(device_id=identity.device_id, client_id=identity.client_id, session_id=self.id)
        self._parts = SessionParts(visit, kit, self._context, self._tasks, clock=clock)
        self._turn_taking = TurnTaking(
            self._new_turn,
            tasks=self._tasks,
            accepts=self._accepts_turns,
            barges_in=self._barges_in,
            on_voice=self._stay,
            prepares=kit.settings.conversation.speculative != "off",
            clock=clock,
        )
        self._hooks = TurnHooks(
            refusal=self._refusal,
            on_text=self._on_turn_text,
            await_quiet=self._turn_taking.await_quiet,
            on_open=self._on_turn_open,
            on_end=self._on_turn_end,
            on_discard=kit.on_discard,
        )
        self._prompt_override = ""
        self._turn_count = 0
        self._mode = wire.ListenMode.AUTO
        self._woken: tuple[Turn, float] | None = None
        """The turn that a `detect` has begun, and when: the `listen start` that firmware sends behind it does not
        interrupt it."""
        self._visit_script: deque[Message] = deque(maxlen=MAX_REMEMBERED)
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
            frame = self._parts.codec.unpack(data)
        except ProtocolError:
            self.binary_faults += 1
            return
        if frame.kind == "json":
            self._router.route(frame.payload.decode("utf-8", "replace"))
            return
        self._ears().hear(frame.payload, frame.timestamp_ms)

    def drain(self, seconds: float) -> None:
        """Take no new turns; let the current answer finish, at most `seconds`. Then what was said is handed in, and
        what waits is sent."""
        self._draining = True
        until = self._clock() + seconds
        while (turn := self._turn_taking.under_way) is not None:
            if not turn.wait(max(0.0, until - self._clock())):
                return
        self._hand_in()
        self._parts.outbox.flush(FLUSH_SECONDS)

    def closed(self, reason: str) -> None:
        """The socket is gone."""
        if self._ended:
            return
        self._ended = True
        self._turn_taking.interrupt(reason)
        self._parts.close()
        self._tasks.kill()
        self._hand_in()
        self._on_closed()
        log.info("session ended", reason=reason, turns=self._turn_count)
        # The parts know this object by its methods: cut here, a visit is freed at once, not by a collection that stops
        # the hub.
        self._turn_taking.close()
        self._parts.release()
        self._woken = None
        del self._router, self._hooks

    def _hand_in(self) -> None:
        dialogue = self._parts.known_dialogue
        if dialogue is not None and dialogue.turns:
            self._kit.resume.put(self.device_id, dialogue.snapshot())
        # Only what was said in this visit, and once: what was resumed has been handed in when that visit ended.
        said, self._visit_script = tuple(self._visit_script), deque(maxlen=MAX_REMEMBERED)
        self._kit.memories.save(self._kit.providers.memory, self.device_id, said, self.id)

    def tick(self, now: float) -> None:
        """Once a second or so: silence. Says goodbye after `close_connection_no_voice_time`, closes for good a minute
        later."""
        limit = self._kit.settings.close_connection_no_voice_time
        if limit <= 0 or self._ended:
            return
        if self._parts.listener is not None:
            self.last_voice_at = max(self.last_voice_at, self._parts.listener.last_voice_at)
        if self.speaking and not self._said_goodbye:
            self.last_voice_at = now
        silent = now - self.last_voice_at
        if silent > limit + HARD_CLOSE_SECONDS:
            self._visit.close(close_codes.NORMAL, "no voice")
        elif silent > limit and not self._said_goodbye:
            self._said_goodbye = True
            end_prompt = self._kit.settings.end_prompt
            if end_prompt.enable and self._parts.hello is not None and not self._draining:
                self._leaving = True
                self._turn_taking.begin(Opening(instruction=end_prompt.prompt))
            else:
                self._visit.close(close_codes.NORMAL, "no voice")

    @property
    def speaking(self) -> bool:
        """True while an answer is being spoken."""
        return self._turn_taking.speaking

    def weight(self) -> Weight:
        """What this session holds in memory and in its queues, for the sweep; an estimate."""
        return Weight(self._parts.held_bytes, self._parts.outbox.queued_frames + len(self._tasks))

    def push(self, message: wire.Sendable) -> bool:
        """A message from outside the conversation, by the urgent lane; False before hello and after the end."""
        if self._ended or self._parts.hello is None:
            return False
        self._parts.outbox.urgent(message)
        return True

    def trim(self) -> None:
        """Give back memory: buffered audio and old history."""
        self._parts.trim()

    # --- messages ---------------------------------------------------------------------------------------------------

    def on_hello(self, message: wire.Hello) -> None:
        """Answer at once; everything that takes time starts behind it."""
        parts, identity = self._parts, self._visit.identity
        was_speaking = self.speaking
        self._turn_taking.interrupt("hello again")
        parts.adopt(message)
        self._turn_taking.forget_voice()
        voice = parts.voice
        parts.outbox.urgent(wire.HelloReply(wire.AudioParams(voice.format, voice.sample_rate, 1, voice.frame_ms)))
        if was_speaking:
            # The one that the interrupt had queued went with the outbox that does not fit the device any more.
            parts.outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))
        if message.features.mcp:
            parts.device_mcp()
        self._kit.prompter.prefetch(identity)
        self._kit.phrases.prepare(voice)

    def on_listen(self, message: wire.Listen) -> None:
        """start, stop, or a detected wake word / typed text."""
        if message.mode is not None:
            self._mode = message.mode
        match message.state:
            case wire.ListenState.START:
                self._listen()
            case wire.ListenState.STOP:
                self._ears().stop()
            case wire.ListenState.DETECT:
                self._detected(message.text)

    def on_abort(self, message: wire.Abort) -> None:
        """Stop speaking now."""
        was_speaking = self.speaking
        self._turn_taking.interrupt(f"abort {message.reason}".strip())
        if not was_speaking:
            # The device waits for it even if there was nothing to be heard yet.
            self._parts.outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))

    def on_mcp(self, message: wire.Mcp) -> None:
        """The device answers a tool call, or tells something."""
        if self._parts.mcp is not None:
            self._parts.mcp.on_payload(message.payload)

    def on_iot(self, message: wire.Iot) -> None:
        """Older firmware's things."""
        iot = self._parts.device_iot()
        if message.descriptors:
            iot.on_descriptors(message.descriptors)
        if message.states:
            iot.on_states(message.states)

    def on_ping(self) -> None:
        """An application-level ping."""
        self._parts.outbox.urgent(wire.Pong(int(time.time() * 1000)))

    def on_goodbye(self) -> None:
        """The device ends the session."""
        self._turn_taking.interrupt("goodbye")
        self._visit.close(close_codes.NORMAL, "goodbye")

    def on_server_command(self, message: wire.ServerCommand) -> None:
        """An order of the management API; may take long, so not in the reader."""
        if len(self._tasks) < MAX_TASKS:
            self._tasks.spawn("server-command", self._obey, message)

    def echo(self, text: str) -> None:
        """Text that is no message goes back as it came."""
        if len(self._tasks) < MAX_TASKS:
            self._tasks.spawn("echo", self._visit.send_text, text)

    # --- turns ------------------------------------------------------------------------------------------------------

    def _ears(self) -> Listener:
        return self._parts.ears(self._turn_taking, self._mode)

    def _listen(self) -> None:
        woken, self._woken = self._woken, None
        just_woken = (
            woken is not None
            and woken[0] is self._turn_taking.current
            and self._clock() - woken[1] <= JUST_WOKEN_SECONDS
        )
        if just_woken and self._mode is not wire.ListenMode.MANUAL:
            self._turn_taking.discard()
        else:
            self._turn_taking.interrupt("listen start")
        self._stay()
        ears = self._ears()
        ears.start(self._mode)
        self._turn_taking.forget_voice()
        if self._turn_taking.taken and not self._barges_in():
            ears.pause()

    def _detected(self, text: str) -> None:
        self._turn_taking.interrupt("wake word")
        self._stay()
        if not self._accepts_turns():
            return
        settings = self._kit.settings
        ears = self._ears()
        ears.reset()
        self._turn_taking.forget_voice()
        if text.startswith(CALL_PREFIX):
            call = text.removeprefix(CALL_PREFIX).strip()
            if call:
                self._turn_taking.announce(Opening(fixed=call, shown=call), when="now")
        elif is_wake_word(text, settings.wakeup_words):
            ears.ignore_until(self._clock() + JUST_WOKEN_SECONDS)
            if not settings.enable_greeting:
                self._parts.outbox.urgent(wire.Stt(text))
                self._parts.outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))
            elif settings.enable_wakeup_words_response_cache:
                self._turn_taking.begin(Opening(text=text, fixed=pick_greeting(text)))
            else:
                self._turn_taking.begin(Opening(text=text))
        elif text.strip():
            self._turn_taking.begin(Opening(text=text.strip()))
        if self._turn_taking.taken and self._turn_taking.current is not None:
            self._woken = self._turn_taking.current, self._clock()

    def _stay(self) -> None:
        """Somebody is there; perhaps during the goodbye that silence had brought about."""
        self.last_voice_at = self._clock()
        if self._said_goodbye:
            self._said_goodbye = self._leaving = False

    def _accepts_turns(self) -> bool:
        return not (self._draining or self._ended or self._leaving)

    def _barges_in(self) -> bool:
        return self._mode is wire.ListenMode.REALTIME

    def _new_turn(self, opening: Opening) -> Turn:
        self._turn_count += 1
        kit, parts = self._kit, self._parts
        context = CallContext(
            self.device_id, self._context.client_id, self.id, self._turn_count, self._context.language
        )
        return Turn(
            self._turn_count,
            opening,
            pipeline=kit.pipeline(
                PipelineParts(
                    providers=kit.providers,
                    toolbox=parts.toolbox(),
                    tool_context=ToolContext(
                        device_id=self.device_id,
                        session_id=self.id,
                        client_id=context.client_id,
                        language=context.language,
                        actions=self,
                    ),
                    brief=lambda question: parts.brief(question, self._prompt_override),
                    answers=kit.answers,
                )
            ),
            context=context,
            options=TurnOptions.of(kit.settings, emotes=parts.emotes),
            phrases=kit.phrases,
            speaker=parts.speaker(),
            outbox=parts.outbox,
            hooks=self._hooks,
            clock=self._clock,
        )

    def _on_turn_text(self, text: str) -> bool:
        """The turn knows what was said: exit commands end the visit here."""
        if text and is_exit(text, self._kit.settings.exit_commands):
            self._parts.outbox.urgent(wire.Stt(text))
            self._leave("exit command")
            return False
        return True

    def _on_turn_open(self) -> None:
        """The ears rest while the server speaks."""
        if not self._barges_in() and self._parts.listener is not None:
            self._parts.listener.pause()
            self._turn_taking.forget_voice()

    def _on_turn_end(self, turn: Turn, record: TurnRecord) -> None:
        if record.outcome is not Outcome.UNHEARD:
            self._parts.dialogue().append(*record.script)
            if self._kit.providers.memory.traits.remembers:
                self._visit_script.extend(record.script)
        self._kit.quota.spend(self.device_id, record.characters)
        self._kit.observe(self.device_id, record)
        self._turn_taking.turn_ended()
        if turn is not self._turn_taking.current:
            return
        if self._parts.listener is not None:
            self._parts.listener.resume()
        if not self._leaving:
            return
        if record.outcome is Outcome.INTERRUPTED:
            self._leaving = False  # whoever cuts a farewell short wants to stay
        else:
            self._leave("goodbye said")

    def _leave(self, reason: str) -> None:
        self._leaving = True
        self._tasks.spawn_later(EXIT_LINGER_SECONDS, "leave", self._visit.close, close_codes.NORMAL, reason)

    def _refusal(self) -> str:
        self._kit.admit_turn()
        if self._draining:
            raise Overloaded("server draining")
        left = self._kit.quota.left(self.device_id)
        return self._kit.prompter.quota_refusal if left is not None and left <= 0 else ""

    def _obey(self, message: wire.ServerCommand) -> None:
        self._parts.outbox.urgent(self._kit.server_command(message, self._visit.identity.peer_ip))

    # --- actions tools may ask for (tools.base.SessionActions) --------------------------------------------------------

    def close_after_reply(self) -> None:
        """Close the visit when the current answer has been spoken."""
        self._leaving = True

    def set_prompt(self, text: str) -> None:
        """Another role, until the visit ends."""
        self._prompt_override = text

    def play(self, path: Path) -> None:
        """Play a sound file after what is being said."""
        if self._turn_taking.current is not None:
            self._turn_taking.current.play(path)

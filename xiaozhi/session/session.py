"""One device's session: what it announced, which agent it gets, its dialogue, and the turn under way.

The connection tells it what has come (`LinkHandler`, in the reader's greenlet). Nothing waits for a vendor here, so an
abort is heard while everything else is stuck. `turn_taking.py` decides who may speak, `parts.py` makes the parts.

A session begins with the default agent, and hello is answered at once. A device without settings of its own keeps that
agent, which costs nothing. For the others a greenlet asks the `AgentSource`; what needs the agent waits meanwhile
(`agent_wait.py`)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

from xiaozhi.chat import CallContext
from xiaozhi.errors import NotServed, Overloaded, ProtocolError
from xiaozhi.protocol import close_codes
from xiaozhi.protocol import messages as wire
from xiaozhi.protocol.frames import Frame
from xiaozhi.runtime import usage
from xiaozhi.runtime.logs import bind_context, get_logger
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.session.actions import Actions
from xiaozhi.session.agent import Agent, AgentSource
from xiaozhi.session.agent_wait import AgentWait
from xiaozhi.session.history import SessionHistory
from xiaozhi.session.link import Link, Weight
from xiaozhi.session.listening.listener import Listener
from xiaozhi.session.messages import MessageRouter
from xiaozhi.session.parts import NO_HELLO, SessionParts
from xiaozhi.session.services import SessionServices
from xiaozhi.session.turn_record import Outcome, TurnOptions, TurnRecord
from xiaozhi.session.turns.opening import Opening
from xiaozhi.session.turns.pipeline import OutputLimit
from xiaozhi.session.turns.turn import Turn, TurnHooks
from xiaozhi.session.turns.turn_taking import TurnTaking
from xiaozhi.session.turns.wakeup import is_exit, is_wake_word, pick_greeting
from xiaozhi.settings.fields import text_in

log = get_logger(__name__)

AGENT_SECONDS: Final = 10.0
"""How long a device waits for an agent of its own before it is served by the default one."""
JUST_WOKEN_SECONDS: Final = 2.0
HARD_CLOSE_SECONDS: Final = 60.0
CALL_PREFIX: Final = "[device_call]"
EXIT_LINGER_SECONDS: Final = 0.2
FLUSH_SECONDS: Final = 1.0
MAX_TASKS: Final = 32
"""Far above what a session needs; a device that sends many orders gets no further."""
_NEED_AGENT = (wire.Listen, wire.Abort, wire.Mcp, wire.Iot)
"""Messages that wait until it is known which agent a device gets. Hello, pings and farewells are answered at once."""


class Session:
    """See the module. Made when the link is open; `closed` ends it."""

    def __init__(
        self,
        link: Link,
        services: SessionServices,
        agents: AgentSource,
        *,
        agent_seconds: float = AGENT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        identity, self.device_id = link.identity, link.identity.device_id
        self.id = identity.session_id or secrets.token_hex(16)
        self._link = link
        self._services = services
        self._agents = agents
        self._agent_seconds = agent_seconds
        self._clock = clock
        self._tasks = Tasks()
        self._router = MessageRouter(self)
        self._context = CallContext(device_id=identity.device_id, client_id=identity.client_id, session_id=self.id)
        self._parts = SessionParts(link, services, agents.default(), self._context, self._tasks, clock=clock)
        self._turn_taking = TurnTaking(
            self._new_turn,
            tasks=self._tasks,
            accepts=self._accepts_turns,
            barges_in=self._barges_in,
            on_voice=self._stay,
            admit=services.admit_turn,
            clock=clock,
        )
        self._hooks = TurnHooks(
            output_limit=self._output_limit,
            on_text=self._on_turn_text,
            await_quiet=self._turn_taking.await_quiet,
            on_open=self._on_turn_open,
            on_end=self._on_turn_end,
            on_discard=services.telemetry.prepared_in_vain,
        )
        self._actions = Actions(identity, self._parts, self._turn_taking, self._leave_after_reply)
        self._history = SessionHistory(services.history, self._context, clock)
        self._agent_known = False
        self._wait: AgentWait | None = None
        """There is one while the agent is being looked for."""
        self._turn_count = 0
        self._mode = wire.ListenMode.AUTO
        self._greeting: Turn | None = None
        """The answer to a wake word: the `listen start` that follows it ends the deafness after waking."""
        self._draining = False
        self._leaving = False
        self._said_goodbye = False
        self._ended = False
        self.binary_faults = 0
        self.last_voice_at = clock()
        services.sessions.join(self._actions)
        bind_context(session=self.id[:8], device=self.device_id)

    # --- what the connection tells ----------------------------------------------------------------------------------

    def on_text(self, text: str) -> None:
        """One JSON message."""
        with usage.charged(text):
            self._read(text)

    def _read(self, text: str) -> None:
        message = self._router.read(text)
        if message is None:
            return
        # Whoever hears why there is no agent may silence that.
        waits = isinstance(message, _NEED_AGENT) and not (self.speaking and isinstance(message, wire.Abort))
        if self._agent_known or not waits or (wait := self._find_agent(None)) is None:
            self._router.route(message)
        else:
            wait.add_message(message, len(text))

    def on_binary(self, data: bytes) -> None:
        """One binary frame."""
        try:
            frame = self._parts.codec.unpack(data)
        except ProtocolError:
            self.binary_faults += 1
            return
        if frame.kind == "json":
            self.on_text(frame.payload.decode("utf-8", "replace"))
        elif self._agent_known or (wait := self._find_agent(None)) is None:
            self._listener().hear(frame.payload, frame.timestamp_ms)
        else:
            wait.add_sound(frame)

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
        self._services.sessions.leave(self._actions)
        self._turn_taking.interrupt(reason)
        self._hand_in()  # first what saves, then what waits: the caller has a deadline
        try:
            self._history.end()
            self._parts.close(broken=reason.startswith(str(close_codes.ABNORMAL)))
            self._tasks.kill()
        finally:
            self._agent.release()
            log.info("session ended", reason=reason, turns=self._turn_count)
            # The parts know this object by its methods: cut here, a session is freed at once, not by a collection.
            self._turn_taking.close()
            self._parts.release()
            self._greeting = self._wait = None
            del self._router, self._hooks, self._actions

    def _hand_in(self) -> None:
        dialogue = self._parts.known_dialogue
        if dialogue is not None and dialogue.turns:
            self._services.resume.put(self.device_id, self._link.identity.client_id, dialogue.snapshot())
        # Only what was said in this session, and once: what was resumed has been handed in when that session ended.
        if said := self._parts.said.take():
            self._services.memories.save(self._agent.providers.memory, self._remembered_as, said, self.id)

    def tick(self, now: float) -> None:
        """Once a second or so: a missing hello; silence. Says goodbye after `close_connection_no_voice_time`, closes a
        minute later."""
        settings = self._agent.settings
        if self._parts.hello_overdue(now):
            self._link.close(close_codes.POLICY_VIOLATION, NO_HELLO)
        limit = settings.close_connection_no_voice_time
        if limit <= 0 or self._ended:
            return
        if self._parts.listener is not None:
            self.last_voice_at = max(self.last_voice_at, self._parts.listener.last_voice_at)
        if self.speaking and not self._said_goodbye:
            self.last_voice_at = now
        silent = now - self.last_voice_at
        if silent > limit + HARD_CLOSE_SECONDS:
            self._link.close(close_codes.NORMAL, "no voice")
        elif silent > limit and not self._said_goodbye:
            self._said_goodbye = True
            spoken_with = self._agent_known and self._parts.spoken_with(self._mode)
            if settings.end_prompt.enable and spoken_with and not self._draining:
                self._leaving = True
                self._turn_taking.begin(Opening(instruction=settings.end_prompt.prompt))
            else:
                self._link.close(close_codes.NORMAL, "no voice")

    @property
    def speaking(self) -> bool:
        """True while an answer is being spoken."""
        return self._turn_taking.speaking

    def weight(self) -> Weight:
        """An estimate of what it holds, for the sweep."""
        memory, waiting = self._parts.held_bytes, self._parts.outbox.queued_frames + len(self._tasks)
        if self._wait is not None:
            return Weight(memory + self._wait.held_bytes, waiting + len(self._wait))
        return Weight(memory, waiting)

    def push(self, message: wire.Sendable) -> bool:
        """A message from outside the conversation, by the urgent lane; False before hello and after the end."""
        return not self._ended and self._actions.push(message)

    def trim(self) -> None:
        """Give back memory."""
        self._parts.trim()
        if self._wait is not None:
            self._wait.drop_sound()

    # --- which agent ------------------------------------------------------------------------------------------------

    def agent_found(self, agent: Agent | None) -> None:
        """See AgentWaiter."""
        if agent is not None:
            self._parts.adopt_agent(agent)
        self._begin()

    def tell(self, refusal: NotServed) -> None:
        """See AgentWaiter."""
        self._turn_taking.announce(Opening(fixed=refusal.spoken, shown=refusal.shown), when="now")

    def take_message(self, message: wire.DeviceMessage) -> None:
        """See AgentWaiter."""
        self._router.route(message)

    def take_sound(self, frame: Frame) -> None:
        """See AgentWaiter."""
        self._listener().hear(frame.payload, frame.timestamp_ms)

    def agent_settled(self) -> None:
        """See AgentWaiter."""
        self._wait = None
        self._agent_known = True

    @property
    def _agent(self) -> Agent:
        return self._parts.agent

    @property
    def _remembered_as(self) -> str:
        return self._services.remembered_as(self._link.identity)

    def _find_agent(self, hello: wire.Hello | None) -> AgentWait | None:
        """None: it is known which agent this device gets. Else what has to wait for it goes there."""
        if self._agent_known or self._wait is not None:
            return self._wait
        if not self._agents.has_own(self._link.identity):
            self._agent_known = True
            return None
        self._wait = AgentWait(self._agents, self._link, self, self._services.telemetry, seconds=self._agent_seconds)
        self._tasks.spawn("agent", self._wait.run, hello)
        return self._wait

    def _begin(self) -> None:
        """Hello was said and the agent is known: start what takes time."""
        parts = self._parts
        self._turn_taking.prepares = parts.prepares
        if parts.hello is None:
            return
        if parts.hello.features.mcp:
            parts.device_mcp()
        parts.agent.prompter.prefetch(self._link.identity)
        parts.agent.phrases.prepare(parts.voice)
        self._actions.begun()
        self._services.sessions.ready(self._actions)

    # --- messages ---------------------------------------------------------------------------------------------------

    def on_hello(self, message: wire.Hello) -> None:
        """Answer at once; everything that takes time starts behind it."""
        parts = self._parts
        was_speaking = self.speaking
        self._turn_taking.interrupt("hello again")
        parts.adopt(message)
        self._turn_taking.forget_voice()
        parts.outbox.urgent(parts.hello_reply())
        if was_speaking:
            # The one that the interrupt had queued went with the outbox that does not fit the device any more.
            parts.outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))
        wait = self._find_agent(message)
        if wait is None:
            self._begin()
        else:
            wait.start_anew()

    def on_listen(self, message: wire.Listen) -> None:
        """start, stop, or a detected wake word / typed text."""
        if message.mode is not None:
            self._mode = message.mode
        match message.state:
            case wire.ListenState.START:
                self._listen()
            case wire.ListenState.STOP:
                self._listener().stop()
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
        self._link.close(close_codes.NORMAL, "goodbye")

    def on_server_command(self, message: wire.ServerCommand) -> None:
        """An order of the management API; may take long, so not in the reader."""
        if len(self._tasks) < MAX_TASKS:
            self._tasks.spawn("server-command", self._obey, message)

    def echo(self, text: str) -> None:
        """Text that is no message goes back as it came; at once, since a close may stand right behind it."""
        self._link.send_text(text)

    # --- turns ------------------------------------------------------------------------------------------------------

    def _listener(self) -> Listener:
        return self._parts.open_listener(self._turn_taking, self._mode)

    def _listen(self) -> None:
        """The microphone opens. A button interrupts. The other modes do not: firmware that wants silence sends `abort`
        first, and clients exist that send this in the middle of every answer."""
        if self._mode is wire.ListenMode.MANUAL:
            self._turn_taking.interrupt("listen start")
        else:
            self._turn_taking.discard()
        if not (answering := self._turn_taking.taken):
            self._stay()
        listener = self._listener()
        if self._greeting is not None and self._greeting.ended:
            # After the greeting: what is heard now is no rest of the wake word.
            self._greeting = None
            listener.ignore_until(0.0)
        listener.start(self._mode)
        self._turn_taking.forget_voice()
        if answering and not self._barges_in():
            listener.pause()

    def _detected(self, text: str) -> None:
        self._turn_taking.interrupt("wake word")
        self._stay()
        if not self._accepts_turns():
            return
        settings = self._agent.settings
        listener = self._listener()
        listener.reset()
        self._turn_taking.forget_voice()
        if text.startswith(CALL_PREFIX):
            self._actions.called = True
            if call := text.removeprefix(CALL_PREFIX).strip():
                self._turn_taking.announce(Opening(fixed=call, shown=call), when="now")
        elif is_wake_word(text, settings.wakeup_words):
            listener.ignore_until(self._clock() + JUST_WOKEN_SECONDS)
            if not settings.enable_greeting:
                self._parts.outbox.urgent(wire.Stt(text))
                self._parts.outbox.urgent(wire.TtsState(wire.TtsPhase.STOP))
                return
            fixed = pick_greeting(text) if settings.enable_wakeup_words_response_cache else ""
            self._turn_taking.begin(Opening(text=text, fixed=fixed))
            self._greeting = self._turn_taking.current
        elif text.strip():
            self._turn_taking.begin(Opening(text=text.strip()))

    def _stay(self) -> None:
        """The user is there. If that is during the goodbye after a long silence, the session goes on."""
        self.last_voice_at = self._clock()
        if self._said_goodbye:
            self._said_goodbye = self._leaving = False

    def _accepts_turns(self) -> bool:
        return not (self._draining or self._ended or self._leaving)

    def _barges_in(self) -> bool:
        return self._mode is wire.ListenMode.REALTIME

    def _new_turn(self, opening: Opening) -> Turn:
        self._turn_count += 1
        usage.turn_begins()
        agent, parts = self._agent, self._parts
        language = parts.language(opening.text)
        context = CallContext(self.device_id, self._context.client_id, self.id, self._turn_count, language)
        return Turn(
            self._turn_count,
            opening,
            pipeline=self._services.pipeline(parts.for_pipeline(context, self._actions)),
            context=context,
            options=TurnOptions.of(agent.settings, emotes=parts.emotes),
            phrases=agent.phrases,
            speaker=parts.speaker(),
            outbox=parts.outbox,
            hooks=self._hooks,
            clock=self._clock,
        )

    def _on_turn_text(self, text: str) -> bool:
        """The turn knows what was said. False for an exit command, which ends the session."""
        if text and is_exit(text, self._agent.settings.exit_commands):
            self._parts.outbox.urgent(wire.Stt(text))
            self._leave("exit command")
            return False
        return True

    def _on_turn_open(self) -> None:
        """Nobody is listened to while the server speaks, except in realtime mode."""
        if not self._barges_in() and self._parts.listener is not None:
            self._parts.listener.pause()
            self._turn_taking.forget_voice()

    def _on_turn_end(self, turn: Turn, record: TurnRecord) -> None:
        woken = is_wake_word(record.user_text, self._agent.settings.wakeup_words)
        by_user = bool(record.user_text) and not (woken or turn.opening.fixed)
        self._actions.music.turn_ended(turn.tracks, asked=by_user)
        if record.outcome is not Outcome.UNHEARD and not (record.announcement and self._wait is not None):
            self._parts.remember(record.script)
            if self._parts.voices is not None:
                self._parts.voices.spoke(record.speaker)
            if self._agent.providers.memory.traits.remembers:
                said = self._parts.said
                said.add(record.script, by_user=by_user)
                self._services.memories.note(self._agent.providers.memory, self._remembered_as, said.so_far, self.id)
        self._services.quota.spend(self.device_id, record.characters)
        self._services.telemetry.turn_ended(self.device_id, record)
        self._history.turn_ended(record, self._agent.settings.history.mode)
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
        self._tasks.spawn_later(EXIT_LINGER_SECONDS, "leave", self._link.close, close_codes.NORMAL, reason)

    def _output_limit(self, language: str) -> OutputLimit | None:
        self._services.admit_turn()
        if self._draining:
            raise Overloaded("server draining")
        left = self._services.quota.left(self.device_id, self._agent.output_limit)
        return None if left is None else OutputLimit(left, text_in(self._agent.prompter.quota_refusal, language))

    def _obey(self, message: wire.ServerCommand) -> None:
        for reply in self._services.server_command(message, self._link.identity.peer_ip):
            self._parts.outbox.urgent(reply)

    def _leave_after_reply(self) -> None:
        self._leaving = True

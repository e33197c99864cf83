"""What runs: everything with a lifetime, started in one order and stopped in the reverse.

    start   inference pool ▸ database ▸ providers (warmed up) ▸ web ▸ devices ▸ sweeper, watchdog ▸ ready
    stop    not ready ▸ no new devices ▸ answers finish (bounded) ▸ goodbyes 1001/1012 ▸ memories, quota ▸ web
            ▸ shared tools, sidecar ▸ providers ▸ database ▸ pool

What belongs to one reading of the configuration, and how one reading follows another, is `generations.py`. Nothing here
decides about sound, text or the protocol."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence

from gevent.event import Event

from xiaozhi import __version__
from xiaozhi.app import listeners, process, wiring
from xiaozhi.app.agents import ConfiguredAgents, Overlays
from xiaozhi.app.banner import StartFacts, start_facts
from xiaozhi.app.console_pages import open_console
from xiaozhi.app.console_settings import Preview
from xiaozhi.app.descriptors import Descriptors
from xiaozhi.app.gauges import Watched, expect_loops, sample, watch_all
from xiaozhi.app.generations import Generation, Generations
from xiaozhi.app.history import History
from xiaozhi.app.known_devices import KnownDevices
from xiaozhi.app.management import ManagementConsole
from xiaozhi.app.management_orders import ManagementOrders
from xiaozhi.app.messaging import Messaging
from xiaozhi.app.ports import ServerPorts
from xiaozhi.app.readiness import reasons_not_ready
from xiaozhi.app.reminders import ReminderService
from xiaozhi.app.request_rates import RequestRates
from xiaozhi.app.server_parts import ServerParts
from xiaozhi.app.shared_state import shared_state
from xiaozhi.app.stop_steps import StopSteps
from xiaozhi.app.telemetry import Observer, configure_logs
from xiaozhi.app.vendor_health import VendorHealth
from xiaozhi.audio.clips import Clips
from xiaozhi.audio.decode import decode_file
from xiaozhi.devices.quota import OutputQuota
from xiaozhi.errors import Fault, Overloaded, SettingsError
from xiaozhi.protocol import close_codes
from xiaozhi.protocol.token import VisionTokens
from xiaozhi.providers.pool import ProviderPool
from xiaozhi.runtime import logs, tasks
from xiaozhi.runtime.collection import GrowthCollector
from xiaozhi.runtime.inference import InferencePool
from xiaozhi.runtime.limits import Admission
from xiaozhi.runtime.metrics import Metrics
from xiaozhi.runtime.rates import Rates
from xiaozhi.runtime.resilience import CallReport
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.runtime.tracing import open_tracer
from xiaozhi.runtime.watchdog import Shed, ShedPolicy, Watchdog
from xiaozhi.session.link import Identity, Link, LinkHandler
from xiaozhi.session.memory import MemoryWriter
from xiaozhi.session.services import SessionServices
from xiaozhi.session.session import Session
from xiaozhi.session.speaking.speech_cache import SpeechCache
from xiaozhi.session.turns.cascade import Cascade
from xiaozhi.session.turns.pipeline import PipelineFactory
from xiaozhi.settings import Loaded, token_secret, zone_of
from xiaozhi.storage.earlier_files import import_earlier_files
from xiaozhi.tools.device_mcp import Vision
from xiaozhi.tools.household import NoOtherDevices
from xiaozhi.transport.acceptor import Acceptor
from xiaozhi.web.addresses import Ports
from xiaozhi.web.wsgi import WebServer

log = logs.get_logger(__name__)

FLUSH_SECONDS = 5.0
SIDECAR_SECONDS = 10.0
"""For the sidecar to end the programs that it has started."""


class Server:
    """`start`, `wait`, `stop`. The `request_*` methods return at once and may be called from signal handlers.

    `worker`: the name of this process where several share a port. `overlays`: devices' own settings; `console`: where
    those come from instead, if it has been asked for the configuration. `pipeline`: what makes the answers.
    `shed_policy`: when load is shed. `preview`: what `reload` would read with another config/local.yaml."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        reload: Callable[[], Loaded],
        preview: Preview | None = None,
        worker: str = "",
        overlays: Overlays | None = None,
        console: ManagementConsole | None = None,
        pipeline: PipelineFactory = Cascade,
        shed_policy: ShedPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.restart_wanted = False
        self._loaded = loaded
        self._worker = worker
        self._clock = clock
        self._began = clock()
        self._started_s = 0.0
        self._draining = False
        self._stopped = False
        self._stop_wanted = Event()
        self._lasting = Tasks()
        settings = loaded.settings
        secret = token_secret(settings)
        self._vision_tokens = VisionTokens(secret)
        self._database = wiring.make_database(settings)
        self._shared = shared = shared_state(settings)
        self.rates = RequestRates(
            lambda: self._current().loaded.settings.server.limits,
            Rates(shared.counts) if shared is not None else None,
        )
        self.known_devices = KnownDevices(settings, self._database, secret, self.rates.guesses, shared=shared)
        pool = settings.server.thread_pool
        self.inference = InferencePool(pool.max_workers or None, pool.queue_size)
        self._descriptors = Descriptors()
        self.admission = Admission(listeners.admission_limits(settings, self._descriptors))
        self.connections = listeners.connection_registry(settings, self.known_devices)
        self.metrics = Metrics(worker=worker, version=__version__)
        self._tracer = open_tracer(version=__version__, worker=worker)
        self._memories = MemoryWriter(self._database)
        self._quota = OutputQuota(self._database, lambda: datetime.datetime.now(zone_of(settings)).date())
        self.history = History(
            settings,
            self._database,
            current=lambda: self._current().loaded.settings,
            sinks=[console.reports] if console is not None else (),
        )
        self.messaging = Messaging(
            self._database,
            self.known_devices,
            self.metrics,
            self.inference,
            agents=lambda: self.agents,
            addresses=lambda: self._addresses,
            current=lambda: self._current().loaded.settings,
        )
        self._observer = Observer(self.metrics, self._tracer)
        self.reminders = ReminderService(
            self._database, self.messaging.queue, self.metrics, self._observer, lambda: self._current().loaded.settings
        )
        self.watchdog = Watchdog(
            backlog=lambda: self.inference.queued / self.inference.queue_size,
            sample=lambda: sample(self.connections, self.inference),
            sample_interval=settings.monitoring.sample_interval,
            policy=shed_policy,
            on_tick=GrowthCollector().check,
            on_lag=self.metrics.hub_was_late,
            on_shed=self._on_shed,
            on_restart=lambda name: self.metrics.restarted_loops.labels(name).inc(),
        )
        self.services = SessionServices(
            inference=self.inference,
            speech_cache=SpeechCache(settings.conversation.reply_cache_bytes, shared.speech if shared else None),
            shared_answers=shared.answers if shared is not None else None,
            clips=Clips(decode_file),
            resume=self.known_devices.resume,
            memories=self._memories,
            quota=self._quota,
            history=self.history.keeper,
            lasting=self._lasting,
            telemetry=self._observer,
            vision=self._vision,
            admit_turn=self._admit_turn,
            server_command=ManagementOrders(
                secret=lambda: self._current().loaded.settings.management_secret,
                rates=self.rates,
                reload=self.reload,
                restart=lambda: tasks.spawn_later(0.2, "restart", self.request_restart),
                pass_on=self.known_devices.tell_others,
            ).obey,
            boards=self.known_devices.boards,
            lines=self.known_devices.lines,
            remembered_as=self.known_devices.remembered_as,
            pipeline=pipeline,
            sessions=self.messaging.sessions,
            messages=self.messaging.queue,
            ring=self.messaging.others.ring,
            others=self.messaging.others if console is None else NoOtherDevices(),
            reminders=self.reminders.book,
            address_book=console.address_book if console is not None else None,
        )
        self.services.late.sender = self.messaging.queue
        self.provider_pool = ProviderPool(
            self.inference, self._vendor_called, self._observer.breaker_changed, database=self._database
        )
        self.vendor_health = VendorHealth(lambda: self.provider_pool.guards)
        self._generations = Generations(
            read=reload,
            adopt=self._adopt,
            services=self.services,
            provider_pool=self.provider_pool,
            observer=self._observer,
            before_read=console.refresh if console is not None else lambda: None,
            on_reload=self._reloaded,
        )
        self.connection_services = listeners.connection_services(
            settings,
            current=lambda: self._current().loaded.settings,
            boards=self.known_devices.boards,
            sessions=self._new_session,
            connections=self.connections,
            events=self._observer,
        )
        """Whoever accepts devices, by whatever protocol, runs their connections with these."""
        self._management = console
        self.agents = (
            ConfiguredAgents(self._generations, overlays if overlays is not None else {}, self.known_devices)
            if console is None
            else console.join(self._generations, self.inference, self.known_devices.arrive)
        )
        self._addresses = listeners.server_addresses(
            settings, lambda: Ports(self.port, self.http_port), self.known_devices.address_for_a_device
        )
        watched = Watched(
            services=self.services,
            connections=self.connections,
            admission=self.admission,
            database=self._database,
            memories=self._memories,
            inference=self.inference,
            guesses=self.rates.guesses,
            pool=self.provider_pool,
            watchdog=self.watchdog,
        )
        watch_all(self.metrics, watched)
        if shared is not None:
            shared.watch(self.metrics)
        self._parts = ServerParts(
            watched=watched,
            metrics=self.metrics,
            observer=self._observer,
            known=self.known_devices,
            vendors=self.vendor_health,
            history=self.history,
            addresses=self._addresses,
            management=console,
            shared=shared,
            reminders=self.reminders.book,
            current=self._current,
            reload=self.reload_everywhere,
            preview=preview,
            messaging=self.messaging,
            secret=secret,
        )
        self._owner_console = open_console(self._parts, enabled=settings.console.enabled)
        self._ports: ServerPorts | None = None

    # --- start ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring everything up. Raises SettingsError for what cannot be built, OSError for ports that cannot be had."""
        process.prepare()
        self.inference.start()
        self._open_database()
        self._owner_console.start()
        self._generations.open(self._loaded)
        self._memories.start(lambda: self._current().agent.providers.memory)
        self.history.start(self.watchdog, self.metrics)
        self.reminders.start(self.watchdog)
        self._ports = ServerPorts(
            self._parts,
            services=self.connection_services,
            descriptors=self._descriptors,
            rates=self.rates,
            vision_tokens=self._vision_tokens,
            vllm=self.agents.vllm,
            console=self._owner_console,
            ready=self.readiness,
            standing=self.messaging.standing,
            of_several=bool(self._worker),
            clock=self._clock,
        )
        for risk in self._ports.risks:
            log.warning("at risk", note=risk)
        self._ports.start()
        self.connections.start()
        expect_loops(self.watchdog, self.connections, self._memories, self._quota)
        self.watchdog.start()
        if self._management is not None:
            self._management.start(self.request_reload)
        process.settle()
        self._started_s = self._clock() - self._began
        self.vendor_health.probe_soon(self._current().loaded, self.provider_pool)

    def wait(self) -> None:
        """Until somebody wants the server to stop."""
        self._stop_wanted.wait()

    @property
    def port(self) -> int:
        """The device port in use."""
        return self._ports.acceptor.port if self._ports is not None else self._loaded.settings.server.port

    @property
    def http_port(self) -> int:
        """The HTTP port in use."""
        return self._ports.web.address[1] if self._ports is not None else self._loaded.settings.server.http_port

    @property
    def generation(self) -> Generation | None:
        """What belongs to the configuration in force; None before the start and after the end."""
        return self._generations.current

    @property
    def generations_in_use(self) -> int:
        """The one in force, and those that visits under way still use."""
        return self._generations.in_use

    @property
    def acceptor(self) -> Acceptor | None:
        """The device port, once it was started."""
        return self._ports.acceptor if self._ports is not None else None

    @property
    def web(self) -> WebServer | None:
        """The HTTP port, once it was started."""
        return self._ports.web if self._ports is not None else None

    @property
    def stop_wanted(self) -> bool:
        """Somebody has asked for a stop or a restart."""
        return bool(self._stop_wanted.is_set())

    def facts(self) -> StartFacts:
        """What to tell the person who started the server."""
        return start_facts(
            self._loaded.settings,
            self._current().agent.providers.names,
            self._addresses.for_people(listeners.own_host(self._loaded.settings)),
            port=self.port,
            http_port=self.http_port,
            workers=self.inference.workers,
            started_s=self._started_s,
            password=self._owner_console.first_password,
        )

    def _open_database(self) -> None:
        """The database, up to date, with what earlier versions kept in files. Raises SettingsError."""
        self._database.start()
        process.keep_private(self._loaded.settings.data_dir)
        import_earlier_files(self._database, self._loaded.settings.data_dir)
        orders = {"update_config": self.request_reload, "restart": self.request_restart}
        self.known_devices.start(self.connections, self.watchdog, orders)
        wiring.limit_output(self._quota, self._loaded.settings.device_max_output_size)

    # --- stop -------------------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Stop gracefully, soon; also when a restart is under way already."""
        self.restart_wanted = False
        self._stop_wanted.set()

    def request_restart(self) -> None:
        """Stop gracefully, then run the programme anew; not when a stop is under way already."""
        if not self._stop_wanted.is_set():
            self.restart_wanted = True
            self._stop_wanted.set()

    def request_reload(self) -> None:
        """Read the configuration again, in the background."""
        tasks.spawn("reload", self.reload)

    def stop(self, drain_seconds: float | None = None) -> None:
        """Undo `start`, in the reverse order; blocks at most about `drain_seconds` and 40 s. Idempotent. Whatever fails
        is logged, and does not keep the rest from being stopped; a SystemExit or KeyboardInterrupt is raised again at
        the end."""
        if self._stopped:
            return
        self._stopped = self._draining = True
        step = StopSteps()
        settings = (self.generation.loaded if self.generation is not None else self._loaded).settings
        self.admission.shut("server stopping")
        step("late answers", self.services.late.stop, FLUSH_SECONDS)
        step("devices", self._drain, settings.server.drain_seconds if drain_seconds is None else drain_seconds)
        step("reminders", self.reminders.close)
        step("messages", self.messaging.close, FLUSH_SECONDS)
        step("sweeper", self.connections.stop)
        step("watchdog", self.watchdog.stop)
        step("probes", self.vendor_health.close)
        step("tools", self._lasting.join, FLUSH_SECONDS)
        step("tools", self._lasting.kill)
        if not step("memories", self._memories.flush, FLUSH_SECONDS):
            log.warning("memories put aside for the next start")
        step("quota", self._quota.close)
        step("history", self.history.stop)
        if self._management is not None:
            step("console", self._management.close)
        step("console pages", self._owner_console.close)
        if self._ports is not None:
            step("web", self._ports.stop_web, FLUSH_SECONDS)
        step("known devices", self.known_devices.close, FLUSH_SECONDS)
        step("agents", self._generations.close)
        step("shared tools", self.services.shared_tools.close, SIDECAR_SECONDS)
        step("providers", self.provider_pool.close, FLUSH_SECONDS)
        step("traces", self._tracer.close)
        if not step("database", self._database.close, FLUSH_SECONDS):
            log.warning("the database is still busy")
        if not step("pool", self.inference.close, FLUSH_SECONDS):
            log.warning("inference threads are still busy")
        process.release()
        log.info("stopped")
        step.over()

    def _drain(self, drain_seconds: float) -> None:
        """Accept no new device; let the answers under way finish, at most `drain_seconds`; close every connection."""
        if self._ports is not None:
            ending = (close_codes.GOING_AWAY, "server stopping")
            if self.restart_wanted:
                ending = (close_codes.SERVICE_RESTART, "restarting")
            self._ports.drain(self.connections, drain_seconds, *ending)

    # --- reload -----------------------------------------------------------------------------------------------------

    def reload(self) -> Sequence[Fault]:
        """Put the configuration as it is now into force; the faults for which it was refused, if any. Blocks while
        models load."""
        return self._generations.reload()

    def reload_everywhere(self) -> Sequence[Fault]:
        """The same, and where it is accepted the other workers are told to do so as well."""
        faults = self.reload()
        if not faults:
            self.known_devices.tell_others("update_config")
        return faults

    def _adopt(self, old: Loaded, new: Loaded) -> None:
        """Put into force what outlives a generation. Raises SettingsError before anything has changed."""
        settings, before = new.settings, old.settings
        wiring.limit_output(self._quota, settings.device_max_output_size)
        try:
            if settings.log != before.log:
                configure_logs(settings.log)
        except OSError as error:
            wiring.limit_output(self._quota, before.device_max_output_size)
            raise SettingsError(
                [Fault("log.log_dir", settings.log.log_dir, f"a place for {settings.log.log_file} ({error})")]
            ) from error
        self.admission.adopt(listeners.admission_limits(settings, self._descriptors))
        self.connections.adopt(listeners.sweep_policy(settings), per_device=settings.server.limits.per_device)
        self.watchdog.sample_interval = settings.monitoring.sample_interval
        settled = listeners.settled_at_start(before, settings)
        if settled:
            log.warning("configuration", note=f"takes a restart: {', '.join(settled)}")

    def _current(self) -> Generation:
        assert self.generation is not None, "the server has not been started"
        return self.generation

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _new_session(self, link: Link) -> LinkHandler:
        if self._draining or self.watchdog.shedding is Shed.CONNECTIONS:
            raise Overloaded("server")  # it has become so since the door let this one in
        self.known_devices.met(link.identity)
        session = Session(link, self.services, self.agents)
        self.metrics.connections_opened.inc()
        return session

    def _admit_turn(self) -> None:
        if self.watchdog.shedding >= Shed.TURNS:
            raise Overloaded("server")

    def _vision(self, identity: Identity) -> Vision:
        token = self._vision_tokens.issue(identity.device_id, now=time.time())
        own_host = listeners.own_host(self._current().loaded.settings)
        return Vision(url=self._addresses.vision_for(identity.origin, own_host), token=token)

    # --- what others ask ---------------------------------------------------------------------------------------------

    def readiness(self) -> tuple[bool, list[str]]:
        """Whether new devices may be sent here, and why not."""
        full = len(self.connections) >= self.admission.limits.max_connections
        reasons = reasons_not_ready(
            self.watchdog, draining=self._draining, started=self.generation is not None, full=full
        )
        return not reasons, reasons

    def _vendor_called(self, report: CallReport) -> None:
        self._observer.vendor_called(report)
        self.vendor_health.called(report)

    def _reloaded(self, accepted: bool) -> None:
        self.metrics.reloads.labels("accepted" if accepted else "refused").inc()
        if accepted:
            self.vendor_health.probe_soon(self._current().loaded, self.provider_pool)

    def _on_shed(self, level: Shed) -> None:
        self.metrics.shedding.set(int(level))
        if level is Shed.CONNECTIONS:
            self.admission.shut("server")
        elif not self._draining:
            self.admission.open()

"""The command line: flags, signals, exit codes. What is started and stopped,
and in which order, stands in `server.py`.

SIGTERM and SIGINT stop the server gracefully, a second one ends it at once; SIGHUP reads the configuration again.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent

from xiaozhi import __version__
from xiaozhi.app import device_commands, history_commands, model_commands, voice_commands
from xiaozhi.app.banner import show_banner, show_faults
from xiaozhi.app.check_vendors import check_vendors
from xiaozhi.app.management import ManagementConsole
from xiaozhi.app.owner_console import change_password
from xiaozhi.app.providers_table import print_providers
from xiaozhi.app.server import Server
from xiaozhi.app.status import status_line
from xiaozhi.app.telemetry import configure_logs
from xiaozhi.app.terminal import Terminal
from xiaozhi.app.tools_table import print_tools
from xiaozhi.app.wiring import check, make_database, warnings
from xiaozhi.errors import Fault, Overloaded, SettingsError, StorageError
from xiaozhi.net.tcp import AddressError
from xiaozhi.runtime import logs
from xiaozhi.settings import Examined, Loaded, examine, load, masked_yaml

log = logs.get_logger(__name__)

EXIT_SETTINGS = 1
EXIT_AT_ONCE = 130
LAST_WORDS_S = 0.5
"""How long a process that leaves at once waits for its log."""
CHECKS = (["providers", "check"], ["check"])
PROVIDERS = ["providers"]
UPGRADE = ["db", "upgrade"]
TOOLS = ["tools"]
PASSWORD = ["console", "password"]
UPGRADE_PATIENCE_S = 3_600.0
WORKER_VARIABLE = "XIAOZHI_WORKER"
"""Environment variable with the name of this process among several; supervisord.conf sets it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    options = parser.parse_args(arguments)
    of_devices = device_commands.is_device_command(options.command)
    of_history = history_commands.is_history_command(options.command)
    of_voices = voice_commands.is_voice_command(options.command)
    if (options.source or options.into) and not model_commands.is_fetch(options.command):
        parser.error("--from and --into belong to 'models fetch NAME'")
    if model_commands.is_model_command(options.command):
        return model_commands.run(options.command, options.source, options.into)
    if options.command == PROVIDERS:
        return print_providers()
    if options.command not in ([], *CHECKS, TOOLS, UPGRADE, PASSWORD) and not (of_devices or of_history or of_voices):
        usages = (device_commands.USAGE, history_commands.USAGE, voice_commands.USAGE, model_commands.USAGE)
        usage = (" ".join(PASSWORD), *itertools.chain(*usages))
        known = ", ".join(("check", "providers", "providers check", "tools", " ".join(UPGRADE), *usage))
        parser.error(f"unknown command {' '.join(options.command)!r}; there are: {known}")
    examined = _examine(options)
    console = _console(examined) if options.command in ([], *CHECKS, TOOLS) else None
    try:
        return _obey(options, examined, console)
    finally:
        if console is not None:
            console.close()


def _obey(options: argparse.Namespace, examined: Examined, console: ManagementConsole | None) -> int:
    """Do what the command line says, with the configuration of this machine and what the console adds to it."""
    if console is not None:
        try:
            console.at_start(lambda text: print(text, file=sys.stderr))
        except SettingsError as error:
            show_faults(error.faults)
            return EXIT_SETTINGS
        examined = console.examine(lambda tree: _examine(options, tree))
        for sentence in console.failing if options.check_config else ():
            print(f"warning: {sentence}", file=sys.stderr)
    if options.check_config:
        for warning in examined.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    loaded = examined.loaded
    if examined.faults or loaded is None:
        show_faults(examined.faults)
        return EXIT_SETTINGS
    if options.print_config:
        print(masked_yaml(loaded.settings), end="")
        return 0
    if options.check_config:
        print("The configuration is fine.")
        return 0
    if options.command in (*CHECKS, TOOLS):
        # The table tells what is wrong, and a check must not write into the log of a server.
        configure_logs(loaded.settings.log.model_copy(update={"log_dir": "", "log_level": "CRITICAL"}))
        try:
            return print_tools(loaded) if options.command == TOOLS else check_vendors(loaded)
        finally:
            logs.shut_down()
    if options.command == UPGRADE:
        return _upgrade_database(loaded)
    if options.command == PASSWORD:
        return _new_password(loaded)
    if history_commands.is_history_command(options.command):
        return history_commands.run(options.command, loaded)
    if device_commands.is_device_command(options.command):
        return _command_quietly(device_commands.run, options.command, loaded)
    if voice_commands.is_voice_command(options.command):
        return _command_quietly(voice_commands.run, options.command, loaded)
    return _serve(options, loaded, console)


def _console(examined: Examined) -> ManagementConsole | None:
    """The management console that the configuration names, not asked yet; None for none, or when there are faults."""
    loaded = examined.loaded
    if loaded is None or examined.faults or not loaded.settings.under_console:
        return None
    return ManagementConsole(loaded.settings)


def _upgrade_database(loaded: Loaded) -> int:
    database = make_database(loaded.settings)
    try:
        found, now = database.start(UPGRADE_PATIENCE_S)
    except SettingsError as error:
        show_faults(error.faults)
        return EXIT_SETTINGS
    finally:
        database.close()
    print(f"{database.shown_url} was of version {found} and is of version {now}.")
    return 0


def _new_password(loaded: Loaded) -> int:
    database = make_database(loaded.settings)
    try:
        database.start()
        password = change_password(database)
    except SettingsError as error:
        show_faults(error.faults)
        return EXIT_SETTINGS
    except (StorageError, Overloaded) as error:
        show_faults([Fault("storage.url", database.shown_url, f"a database that answers: {error}")])
        return EXIT_SETTINGS
    finally:
        database.close()
    print(f"The console's password is {password} now. Whoever was logged in is not any more.")
    return 0


def _command_quietly(run: Callable[[Sequence[str], Loaded], int], words: Sequence[str], loaded: Loaded) -> int:
    # What was decided is told on the terminal; a server that runs has its own log.
    configure_logs(loaded.settings.log.model_copy(update={"log_dir": "", "log_level": "CRITICAL"}))
    try:
        return run(words, loaded)
    finally:
        logs.shut_down()


def _serve(options: argparse.Namespace, loaded: Loaded, console: ManagementConsole | None) -> int:
    # Until there is a server that can reload, this signal must not end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        configure_logs(loaded.settings.log)
    except OSError as error:
        show_faults([_log_fault(loaded, error)])
        return EXIT_SETTINGS
    try:
        worker = os.environ.get(WORKER_VARIABLE, "")
        server = Server(
            loaded,
            reload=lambda: _load(options, console),
            preview=lambda text: _preview(options, console, text),
            worker=worker,
            console=console,
        )
        _start(server)
    except SettingsError as error:
        show_faults(error.faults)
        return EXIT_SETTINGS
    except AddressError as error:
        show_faults([_address_fault(loaded, error)])
        return EXIT_SETTINGS
    except OSError as error:
        show_faults([_disk_fault(loaded, error)])
        return EXIT_SETTINGS
    terminal = Terminal(lambda: status_line(server))
    try:
        _handle_signals(server)
        show_banner(server.facts())
        terminal.start()
        server.wait()
    finally:
        # Whatever ends the waiting, also an error that gevent raises in the main greenlet: memories are kept.
        terminal.stop()
        server.stop()
    if server.restart_wanted:
        _run_anew()
    return 0


def _start(server: Server) -> None:
    """Start it whole, or not at all."""
    try:
        server.start()
    except BaseException:
        server.stop(drain_seconds=0)
        raise


def _run_anew() -> None:
    """Become the same programme once more: same process id, same arguments, nothing inherited but standard streams and
    environment."""
    log.info("restarting")
    logs.shut_down()
    sys.stdout.flush()
    sys.stderr.flush()
    # Ignored signals stay ignored: a reload that comes now must not end a process that cannot hear it yet.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _handle_signals(server: Server) -> None:
    stopping = False

    def stop(name: str) -> None:
        nonlocal stopping
        if stopping:
            log.warning("second signal, leaving at once", signal=name)
            logs.flush(LAST_WORDS_S)
            os._exit(EXIT_AT_ONCE)
        stopping = True
        log.info("stopping", signal=name)
        server.request_stop()

    gevent.signal_handler(signal.SIGTERM, stop, "SIGTERM")
    gevent.signal_handler(signal.SIGINT, stop, "SIGINT")
    gevent.signal_handler(signal.SIGHUP, server.request_reload)


def _examine(options: argparse.Namespace, console: Mapping[str, Any] | None = None) -> Examined:
    """Everything that is right and wrong with the configuration, its blocks of providers and tools included. `console`:
    the layer of a management console."""
    examined = examine(options.config, overrides=_overrides(options), console=console)
    if examined.loaded is None:
        return examined
    faults = [*examined.faults, *check(examined.loaded)]
    return Examined(examined.loaded, list(dict.fromkeys(faults)), warnings(examined.loaded))


def _load(options: argparse.Namespace, console: ManagementConsole | None) -> Loaded:
    """The configuration as it is now. Raises SettingsError."""
    if console is None:
        return load(options.config, overrides=_overrides(options))
    examined = console.examine(lambda tree: _examine(options, tree))
    if examined.faults or examined.loaded is None:
        raise SettingsError(examined.faults)
    return examined.loaded


def _preview(options: argparse.Namespace, console: ManagementConsole | None, local: str) -> Examined:
    """The configuration as it would be with another config/local.yaml. Uses nothing of gevent."""

    def examined(tree: Mapping[str, Any] | None) -> Examined:
        return examine(options.config, overrides=_overrides(options), console=tree, local=local)

    return examined(None) if console is None else console.examine(examined)


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {key: getattr(options, key) for key in ("port", "http_port")}
    own = {key: value for key, value in given.items() if value is not None}
    return {"server": own} if own else {}


def _log_fault(loaded: Loaded, error: OSError) -> Fault:
    settings = loaded.settings.log
    return Fault(
        "log.log_dir",
        settings.log_dir,
        f"a directory where {settings.log_file} can be written ({error.strerror or error})",
    )


def _address_fault(loaded: Loaded, error: AddressError) -> Fault:
    server, mqtt, (host, port) = loaded.settings.server, loaded.settings.mqtt, error.address
    flags = {
        mqtt.udp_port: ("mqtt.udp_port", "mqtt.udp_port"),
        mqtt.port: ("mqtt.port", "mqtt.port"),
        server.port: ("server.port", "--port"),
        server.http_port: ("server.http_port", "--http-port"),
    }
    key, flag = flags.get(port, ("the port of this worker", "supervisord.conf"))
    expected = f"an address that is free ({error.strerror or error}); choose another one with {flag}"
    return Fault(key, f"{port} on {host}", expected)


def _disk_fault(loaded: Loaded, error: OSError) -> Fault:
    data = str(loaded.settings.data_dir)
    place = str(error.filename) if error.filename else data
    reason = error.strerror or str(error)
    return Fault("log.data_dir", data, f"a directory that can be written, on a disk with room ({place}: {reason})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="server.py",
        description="A voice server for xiaozhi devices. Without any "
        "option it works offline, with what ships in this tree.",
        epilog="Every key of the configuration is explained in "
        "config/default.yaml; XIAOZHI__SERVER__PORT=9000 in the environment "
        "sets server.port.",
    )
    parser.add_argument(
        "command",
        nargs="*",
        metavar="COMMAND",
        help="none: run the server; 'check', or 'providers check': try every configured vendor and measure it; "
        "'providers': list the kinds and types of providers, with their options; "
        "'tools': connect to the MCP servers, list the tools that a session would be offered, and exit; "
        "'db upgrade': bring the database up to date (as every start does) and exit; "
        "'devices list', 'show ID', 'set ID KEY=VALUE ...', 'unset ID KEY ...', 'approve CODE', 'revoke ID', "
        "'forget ID': what is known of devices, their own settings, who may talk (docs/devices.md); "
        "'history show|erase DEVICE', 'history export DEVICE DIRECTORY': what was said; "
        "'privacy': what is kept, where and how long; "
        "'voices list', 'voices enrol ID NAME FILE', 'voices forget ID [NAME]': whose voices are kept; "
        "'models list', 'models fetch NAME' (or default), 'models verify': models that run on this machine; "
        "'console password': a new password for the console in the browser",
    )
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help="'models fetch': take this file or folder, not the network"
    )
    parser.add_argument("--into", metavar="FOLDER", help="'models fetch': where the model goes (default: models/...)")
    parser.add_argument(
        "--config", action="append", metavar="FILE", help="a YAML file laid over config/default.yaml; may be repeated"
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="list every fault of the configuration and exit (0: fine, 1: faults)",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the configuration in force, secrets masked, and exit"
    )
    parser.add_argument("--port", type=int, help="WebSocket port for devices (server.port)")
    parser.add_argument("--http-port", type=int, help="port for OTA, health and metrics (server.http_port)")
    parser.add_argument("--version", action="version", version=f"xiaozhi {__version__}")
    return parser

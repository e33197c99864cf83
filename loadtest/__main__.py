"""The load test's commands: `python -m loadtest run | capacity | idle | churn | soak | compare | hotspots | plan`; each
explains itself with --help."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import argparse
import signal
import sys
from collections.abc import Sequence

import gevent
from rich.console import Console
from rich.markup import escape

from loadtest.measure import capacity, churn, compare, hotspots, idle, plan, run, soak
from loadtest.measure.fleet import FleetError
from loadtest.measure.processes import StartError

INTERRUPTED, TERMINATED = 130, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (run, capacity, idle, churn, soak, compare, hotspots, plan):
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        return int(options.main(options, console))
    except (StartError, FleetError, ValueError) as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _terminate() -> None:
    raise SystemExit(
        TERMINATED
    )  # ends the main greenlet, too, so that servers and vendors started here are stopped on the way out


if __name__ == "__main__":
    gevent.signal_handler(signal.SIGTERM, _terminate)
    sys.exit(main())

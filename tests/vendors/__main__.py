"""The vendors of `loadtest/bench/streams.py`, in a process of their own: prints where they are, and serves until it is
ended."""

import json

from gevent.event import Event

from tests.vendors.volcengine_recogniser import ASYNC, VolcengineRecogniser
from tests.vendors.volcengine_vendor import VolcengineVendor


def main() -> None:
    """Serve."""
    with VolcengineRecogniser() as ears, VolcengineVendor() as mouth:
        print(json.dumps({"hear": ears.url + ASYNC, "speak": mouth.ws_url}), flush=True)
        Event().wait()


if __name__ == "__main__":
    main()

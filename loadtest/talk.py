"""`python -m loadtest.talk --say "what time is it"`, which is what `make talk` runs: see `simulator/talk.py`."""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import sys

from loadtest.simulator.talk import main

if __name__ == "__main__":
    sys.exit(main())

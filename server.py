from gevent import monkey; monkey.patch_all()  # noqa: I001  # fmt: skip
# ^ Before any other import, on the very first line: whatever is imported first keeps the blocking version of what it
# imported.
#
# The whole programme is xiaozhi/app/main.py; this file exists so that the line above has a place to stand.

import gc
import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  whoever starts it without `make run` may have any Python
    sys.exit("Python 3.11 or newer is needed, and this is %s. `make run` looks for one." % sys.version.split()[0])  # noqa: UP031

gc.disable()  # What is imported stays. Looking through all of it for garbage, again and again, took 0.3 s of the start.
# numpy computes in the threads of the inference pool: threads of its own would only wait for the same cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from xiaozhi.app.main import main

gc.freeze()
gc.enable()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

from gevent import monkey; monkey.patch_all()  # noqa: I001  # fmt: skip
# ^ Before any other import, on the very first line: whatever is imported first keeps the blocking version of what it
# imported.
#
# The whole programme is xiaozhi/app/main.py; this file exists so that the line above has a place to stand.

import sys

from xiaozhi.app.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m benchmarks: the cost of a request beside other proxies, as python -m benchmarks.cost."""

import sys

from benchmarks.cost.__main__ import main

if __name__ == "__main__":
    sys.exit(main())

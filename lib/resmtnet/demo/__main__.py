"""`python -m resmtnet.demo`."""

import sys

from resmtnet.demo.command import main

if __name__ == "__main__":
    sys.exit(main())

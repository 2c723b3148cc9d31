"""`python -m resmtnet.cli.demo`."""

import sys

from resmtnet.cli.demo.command import main

if __name__ == "__main__":
    sys.exit(main())

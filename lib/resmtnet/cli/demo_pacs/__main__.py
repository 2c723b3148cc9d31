"""`python -m resmtnet.cli.demo_pacs`."""

import sys

from resmtnet.cli.demo_pacs.command import main

if __name__ == "__main__":
    sys.exit(main())

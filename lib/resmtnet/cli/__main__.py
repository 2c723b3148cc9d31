"""`python -m resmtnet.cli`: the command line where the script `resmtnet` is not on PATH."""

from resmtnet.cli import main

main()

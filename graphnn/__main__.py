"""`python -m graphnn` is the `graphnn` command."""

import sys

from graphnn.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m ibnseg`: the command."""

import sys

from ibnseg_tools.cli import main

sys.exit(main())

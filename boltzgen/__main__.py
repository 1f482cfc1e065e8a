"""`python -m boltzgen` is `boltzgen`."""

import sys

from .cli.main import main

sys.exit(main())

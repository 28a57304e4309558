"""``python -m aioresult``."""

import sys

from aioresult.cli import main

sys.exit(main())

"""``python -m fmicl_text`` and ``accelerate launch -m fmicl_text`` are the ``fmicl`` command."""

import sys

from fmicl_text.cli import main

if __name__ == "__main__":
    sys.exit(main())

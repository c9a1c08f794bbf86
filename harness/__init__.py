"""The jobs: training, the `imax` command line, runs on disk. Imports every other package; none imports it."""

import logging

# Where bitsandbytes is installed, peft imports it, and it warns of a kernel that only speeds it up.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

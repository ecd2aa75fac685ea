"""When this process began, as near as the package can tell: it is imported before all else."""

import time

STARTED = time.monotonic()

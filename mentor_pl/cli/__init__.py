"""The commands."""

import os

# Idle OpenMP threads of torch turn round and round for a while before they sleep. With another process on one of the
# cores that made a CPU step of the embedded task 3 to 25 times slower; few turns cost a quiet machine a tenth of it.
# libgomp reads this when torch is imported, which is after this package.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

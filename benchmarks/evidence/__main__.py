"""See the package."""

from benchmarks.evidence import main

main()

"""The Berkeley Function-Calling Leaderboard (BFCL) for mentor-pl, by the checkers of the package `bfcl-eval`."""

"""Requests that a tool makes on a student's behalf: to the hosts it was given, within a time, and not into the private network."""

"""Teach a small language model to use tools as well as a large one (MENTOR, arXiv:2510.18383)."""

__version__ = "0.1.0"

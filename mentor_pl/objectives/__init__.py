"""Objectives: pure functions of tensors, one file each, written so that the equation can be read."""

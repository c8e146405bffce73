"""SFT, sparse RL, strict RL and MENTOR on a pretrained student: `python -m benchmarks.evidence`, see `docs/evidence.md`."""

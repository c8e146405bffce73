"""The default engine: the fastest in-process one that serves the student."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager

from torch import nn

from mentor_pl.engines.base import EngineSession, RolloutEngine, SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import EngineError

logger = logging.getLogger(__name__)


class AutoEngine(RolloutEngine):
    """`CascadeEngine` where it supports the student, else `HFGenerateEngine`; the choice is made once and logged.

    To force one of the two, name it instead of this engine.
    """

    def __init__(self, max_rows: int = 256) -> None:
        """Set the engine up.

        Args:
            max_rows: Rows generated together at most.
        """
        self._candidate = CascadeEngine(max_rows=max_rows)
        self._fallback = HFGenerateEngine(max_batch_rows=max_rows)
        self._chosen: RolloutEngine | None = None

    @property
    def chosen(self) -> RolloutEngine | None:
        """The engine in use; None before the first `sync`."""
        return self._chosen

    def sync(self, model: nn.Module, version: int) -> None:
        """Take over the weights; the first time choose the engine."""
        if self._chosen is None:
            self._chosen = self._choose(model, version)
        else:
            self._chosen.sync(model, version)

    def session(self, sampling: SamplingParams, stop_token_ids: Sequence[int]) -> AbstractContextManager[EngineSession]:
        """Open a session of the chosen engine."""
        if self._chosen is None:
            raise EngineError("AutoEngine has no weights yet; call sync(model, version) before session()")
        return self._chosen.session(sampling, stop_token_ids)

    def close(self) -> None:
        """Free what the engine holds."""
        if self._chosen is not None:
            self._chosen.close()

    def _choose(self, model: nn.Module, version: int) -> RolloutEngine:
        try:
            self._candidate.sync(model, version)
        except EngineError as reason:
            self._fallback.sync(model, version)
            logger.warning("rollouts by HFGenerateEngine, the slow one: %s", reason)
            return self._fallback
        logger.info("rollouts by CascadeEngine")
        return self._candidate

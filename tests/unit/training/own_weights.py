"""An engine in this process whose sampling leaves the trainer's weights alone."""

from __future__ import annotations

import copy
import threading

from mentor_pl.engines.hf_generate import HFGenerateEngine


class OwnWeights(HFGenerateEngine):
    """Samples from a copy of the weights, as a server does."""

    holds_own_weights = True

    def __init__(self):
        super().__init__()
        self.sessions = 0

    def sync(self, model, version):
        assert threading.current_thread() is threading.main_thread()
        super().sync(copy.deepcopy(model), version)

    def session(self, sampling, stop_token_ids):
        self.sessions += 1
        return super().session(sampling, stop_token_ids)

"""The fast in-process engine: prompts computed once, caches extended, no turn barrier."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from mentor_pl.engines.base import EngineSession, GenerationRequest, RolloutEngine, SamplingParams
from mentor_pl.engines.cascade.decoder import Decoder
from mentor_pl.engines.cascade.graphs import RECORDERS, Record
from mentor_pl.engines.cascade.model_decoder import ModelDecoder
from mentor_pl.engines.cascade.session import CascadeSession
from mentor_pl.engines.cascade.token_decoder import TokenDecoder
from mentor_pl.engines.student_model import evaluating, generating_model
from mentor_pl.errors import ConfigError, EngineError

logger = logging.getLogger(__name__)


class CascadeEngine(RolloutEngine):
    """Generates with the trainer's own model: by a forward of its own for some families (see `decoder`), else by the model's.

    A prompt is prefilled once for all its rows, and what it has in common with an earlier prompt
    not at all. Rows attend to the shared prefix together and to their own tokens apart (cascade
    attention). A row that is continued costs only its new tokens. Rows decode in lock-step, but
    none waits for another's turn to end.
    """

    def __init__(
        self,
        max_rows: int = 256,
        precision: Literal["student", "bfloat16"] = "student",
        prepack: bool = True,
        graphs: bool = True,
    ) -> None:
        """Set the engine up.

        Args:
            max_rows: Rows decoded together at most; more wait. Rows that wait for a tool do not
                count.
            precision: What linear layers and attention compute in: as the student does in training,
                or bfloat16, which is faster and then samples from a slightly other policy than the
                one trained.
            prepack: On a CPU keep the weights once more in the layout that oneDNN multiplies
                fastest.
            graphs: On a GPU record each shape of a decoding step once and replay it. Where that
                fails the steps are computed one by one, which is logged.
        """
        if max_rows < 1:
            raise ConfigError(f"max_rows is {max_rows}; it must be at least 1")
        if precision not in ("student", "bfloat16"):
            raise ConfigError(f"precision is {precision!r}; it must be 'student' or 'bfloat16'")
        self.max_rows, self.precision, self.prepack, self.graphs = max_rows, precision, prepack, graphs
        self._model: PreTrainedModel | None = None
        self._decoder: TokenDecoder | None = None
        self._recorder: Callable[[], Record] | None = None
        self._version = 0

    def sync(self, model: nn.Module, version: int) -> None:
        """Copy the plain linear layers' weights; call it in the precision context in which the rollout runs.

        Raises:
            EngineError: The model does not let its attention be taken over, or this engine computes
                something else than it does.
        """
        model = generating_model(model)
        dtype = self._compute_dtype(model)
        if self._decoder is not None and model is self._model and dtype == self._decoder.dtype:
            self._decoder.refresh()
        else:
            self._decoder = None
            self._decoder, self._recorder = self._choose(model, dtype)
            self._model = model
        self._version = version

    @contextmanager
    def session(self, sampling: SamplingParams, stop_token_ids: Sequence[int]) -> Iterator[EngineSession]:
        """Open a session; the model is in eval mode while it lasts."""
        if self._decoder is None or self._model is None:
            raise EngineError("CascadeEngine has no weights yet; call sync(model, version) before session()")
        with evaluating(self._model):
            yield CascadeSession(
                self._decoder, self._version, sampling, tuple(stop_token_ids), self.max_rows, self._recorder
            )

    def _choose(self, model: PreTrainedModel, dtype: torch.dtype) -> tuple[TokenDecoder, Callable[[], Record] | None]:
        """Take a forward of our own where there is one for this model, else the model's."""
        try:
            decoder = Decoder(model, dtype, self.prepack)
            return decoder, self._checked_recorder(decoder, model)
        except EngineError as reason:
            logger.info("CascadeEngine calls the model's own forward: %s", reason)
        try:
            decoder = ModelDecoder(model, dtype)
            # its forward asks the device for sizes, which a recording cannot
            _check_against_model(decoder, model, None)
        except EngineError:
            raise
        except Exception as failure:  # others' code: whatever it does, it cannot be served
            raise EngineError(f"{type(model).__name__} cannot be called by CascadeEngine: {failure!r}") from failure
        return decoder, None

    def _checked_recorder(self, decoder: TokenDecoder, model: PreTrainedModel) -> Callable[[], Record] | None:
        """Hold the decoder against the model; return what records its steps, None where they are computed one by one."""
        recorder = RECORDERS.get(decoder.device.type) if self.graphs else None
        try:
            _check_against_model(decoder, model, recorder)
        except (EngineError, RuntimeError) as reason:
            if recorder is None:
                raise
            _check_against_model(decoder, model, None)
            logger.warning("CascadeEngine decodes without graphs, which is slower: %s", reason)
            return None
        return recorder

    def _compute_dtype(self, model: PreTrainedModel) -> torch.dtype:
        if self.precision == "bfloat16":
            return torch.bfloat16
        embeddings = model.get_input_embeddings()
        weight = embeddings.weight
        assert isinstance(weight, torch.Tensor)
        device_type = weight.device.type
        return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else weight.dtype


@torch.no_grad()
def _check_against_model(decoder: TokenDecoder, model: PreTrainedModel, recorder: Callable[[], Record] | None) -> None:
    """Compare log-probabilities with the model's own over a prefill, decoding, an extension and decoding again.

    Four tokens at a time: with graphs the first is sampled from the prefill, the second from a step
    computed as usual, the third from one recorded and the fourth from its replay.

    Raises:
        EngineError: They disagree by more than rounding.
    """
    vocab_size = decoder.vocab_size
    token_ids = tuple((7 + 104_729 * i) % vocab_size for i in range(16))
    expected: list[float] = []
    found: list[float] = []
    with evaluating(model):
        session = CascadeSession(decoder, 0, SamplingParams(temperature=0), (), 1, recorder)
        for _ in range(2):
            session.submit([GenerationRequest(row=0, token_ids=token_ids, max_new_tokens=4, seed=0)])
            [(_, completion)] = session.poll()
            sampled = list(completion.token_ids)
            inputs = torch.tensor([[*token_ids, *sampled]], device=decoder.device)
            logits = model(input_ids=inputs, use_cache=False).logits[0, -5:-1].float()
            expected += logits.log_softmax(-1).gather(1, inputs[0, -4:, None])[:, 0].tolist()
            found += completion.logprobs
            token_ids = (*token_ids, *sampled, *token_ids[:6])
    difference = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    # a wrong mask, norm or angle moves log-probabilities by far more than rounding does
    limit = 1e-2 if decoder.dtype == torch.float32 else 0.5
    logger.info("CascadeEngine agrees with %s to %.1e", type(model).__name__, difference)
    if not difference <= limit:
        raise EngineError(
            f"CascadeEngine computes other log-probabilities than {type(model).__name__} (off by {difference:.2g}; rounding "
            f"explains {limit}); use HFGenerateEngine"
        )

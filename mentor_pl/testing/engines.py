"""The contract of rollout engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mentor_pl.testing.contract import require
from mentor_pl.trajectory import Completion

if TYPE_CHECKING:
    from torch import nn

    from mentor_pl.engines.base import EngineSession, GenerationRequest, RolloutEngine

_VERSION = 3
_TOKENS = 8


def check_rollout_engine(
    engine: RolloutEngine, model: nn.Module, prompts: Sequence[Sequence[int]], atol: float = 1e-3
) -> None:
    """Check that an engine keeps its plugin point's contract; does not close it.

    Completions must keep their budget, end with the stop token where they say so, carry the version
    of the weights and the log-probabilities that `model` itself gives its tokens (temperature 1),
    and not depend on what else is generated beside them. A row must continue.

    Args:
        engine: The engine.
        model: The student, in float32 for the default tolerance.
        prompts: At least two prompts of different lengths, as token ids.
        atol: How far a log-probability may lie from the model's own.

    Raises:
        PluginError: It does not.
    """
    from mentor_pl.engines.base import GenerationRequest, SamplingParams

    engine.sync(model, _VERSION)
    requests = [
        GenerationRequest(row=row, token_ids=tuple(prompt), max_new_tokens=_TOKENS + row, seed=100 + row)
        for row, prompt in enumerate(prompts)
    ]
    with engine.session(SamplingParams(), ()) as session:
        require(session.poll() == [], engine, "poll gave completions of nothing", "it must return [] at once")
        together = _complete(engine, session, requests)
    for request in requests:
        completion = together[request.row]
        _check_completion(engine, request, completion, ())
        with engine.session(SamplingParams(), ()) as session:
            alone = _complete(engine, session, [request])[request.row]
        require(
            alone.token_ids == completion.token_ids,
            engine,
            f"row {request.row} gave {completion.token_ids} beside others and {alone.token_ids} alone",
            "the seed and the position decide, not who else is live",
        )
        _check_logprobs(engine, model, request, completion, atol)
    _check_stop(engine, requests[0], together[0])


def _check_stop(engine: RolloutEngine, request: GenerationRequest, completion: Completion) -> None:
    """Generate again with a token that is known to come as the stop token, then continue the row."""
    from mentor_pl.engines.base import GenerationRequest, SamplingParams

    stop = completion.token_ids[2]
    length = completion.token_ids.index(stop) + 1
    with engine.session(SamplingParams(), (stop,)) as session:
        stopped = _complete(engine, session, [request])[request.row]
        require(
            stopped.token_ids == completion.token_ids[:length] and stopped.finish_reason == "stop",
            engine,
            f"with the stop token {stop} it gave {stopped.token_ids} ({stopped.finish_reason}) in place of "
            f"{completion.token_ids[:length]} (stop)",
            "a completion ends with the first stop token and keeps it",
        )
        follow_up = GenerationRequest(
            row=request.row,
            token_ids=(*request.token_ids, *stopped.token_ids, request.token_ids[0]),
            max_new_tokens=2,
            seed=request.seed,
        )
        continued = _complete(engine, session, [follow_up])[request.row]
        _check_completion(engine, follow_up, continued, (stop,))
        session.release(request.row)


def _complete(
    engine: RolloutEngine, session: EngineSession, requests: Sequence[GenerationRequest]
) -> dict[int, Completion]:
    session.submit(requests)
    done: dict[int, Completion] = {}
    while len(done) < len(requests):
        polled = session.poll()
        require(
            bool(polled), engine, f"poll gave nothing with {len(requests) - len(done)} rows under way", "it must wait"
        )
        for row, completion in polled:
            require(row not in done, engine, f"row {row} was completed twice", "each request has one completion")
            done[row] = completion
    require(session.poll() == [], engine, "poll gave more completions than requests", "each request has one")
    return done


def _check_completion(
    engine: RolloutEngine, request: GenerationRequest, completion: Completion, stops: Sequence[int]
) -> None:
    ids, about = completion.token_ids, f"row {request.row} gave {completion}"
    require(
        1 <= len(ids) <= request.max_new_tokens, engine, about, f"1 to {request.max_new_tokens} tokens were asked for"
    )
    require(len(completion.logprobs) == len(ids), engine, about, "each token has one log-probability")
    require(all(lp <= 1e-6 for lp in completion.logprobs), engine, about, "log-probabilities are not positive")
    expected = "stop" if ids[-1] in stops else "length"
    require(completion.finish_reason == expected, engine, about, f"its finish_reason must be {expected!r}")
    require(completion.policy_version == _VERSION, engine, about, f"the weights have the version {_VERSION}")


def _check_logprobs(
    engine: RolloutEngine, model: nn.Module, request: GenerationRequest, completion: Completion, atol: float
) -> None:
    import torch

    ids = torch.tensor([[*request.token_ids, *completion.token_ids]], device=next(model.parameters()).device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(request.token_ids) - 1 : -1]
    model.train(was_training)
    own = torch.log_softmax(logits.float(), dim=-1).gather(1, ids[0, len(request.token_ids) :, None])[:, 0].tolist()
    gap = max(abs(a - b) for a, b in zip(own, completion.logprobs, strict=True))
    require(
        gap <= atol,
        engine,
        f"row {request.row}: log-probabilities lie up to {gap:.2g} from the model's own",
        f"they must be those of the tokens sampled, within {atol:g}",
    )

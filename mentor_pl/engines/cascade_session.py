"""The scheduler of `CascadeEngine`: which rows are computed when, and where their caches lie."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch

from mentor_pl.engines.base import EngineSession, EngineStatistics, GenerationRequest, SamplingParams
from mentor_pl.engines.cascade_attention import DecodeAttention, GroupLayout, Run, RunAttention
from mentor_pl.engines.decoder import Decoder
from mentor_pl.engines.kv_store import KVStore
from mentor_pl.engines.sampling import as_int64, sample_tokens, uniforms
from mentor_pl.errors import EngineError
from mentor_pl.trajectory import Completion

_TOKENS_PER_FORWARD = 4096
"""New tokens computed at once in prefill and extension: bounds the memory of their activations."""


class _State(Enum):
    LIVE = "live"  # being decoded
    PARKED = "parked"  # its completion was delivered; keeps its cache for a continuation
    FREE = "free"  # released; its slot is to be reused


@dataclass(slots=True, eq=False)
class _Group:
    """Rows with one prompt. `hidden` is the prompt's last hidden state, `[1, H]`."""

    token_ids: tuple[int, ...]
    slot: int
    hidden: torch.Tensor
    num_rows: int = 0


@dataclass(slots=True, eq=False)
class _Row:
    """One trajectory. `cached` counts the tokens in its suffix slot: all after the prompt but the last one sampled."""

    row: int
    group: _Group
    token_ids: list[int]
    seed: int
    budget_end: int = 0
    cached: int = 0
    first_sampled: int = 0
    logprobs: list[float] = field(default_factory=list[float])
    state: _State = _State.LIVE


class CascadeSession(EngineSession):
    """A rollout on a `Decoder`; see `EngineSession`.

    Slots of the suffix store hold the live rows first, then the parked ones. A row that finishes stays where it is until the next step
    is due: a fast tool has answered by then and nothing has to be moved.
    """

    def __init__(
        self, decoder: Decoder, version: int, sampling: SamplingParams, stop_token_ids: tuple[int, ...], max_rows: int
    ) -> None:
        self._decoder, self._version = decoder, version
        self._sampling, self._stop_token_ids = sampling, frozenset(stop_token_ids)
        self._max_rows = max_rows
        shape = decoder.num_layers, decoder.num_kv_heads, decoder.head_dim, decoder.dtype, decoder.device
        self._prefixes, self._suffixes = KVStore(*shape), KVStore(*shape)
        self._prompts: list[tuple[int, ...]] = []  # sorted, of all groups: neighbours share the longest prefixes
        self._groups: dict[tuple[int, ...], _Group] = {}
        self._rows: dict[int, _Row] = {}
        self._slots: list[_Row] = []
        self._new: deque[GenerationRequest] = deque()
        self._continued: list[tuple[_Row, GenerationRequest]] = []
        self._done: list[tuple[int, Completion]] = []
        self._batch: _Batch | None = None
        self._statistics = EngineStatistics()

    @property
    def statistics(self) -> EngineStatistics:
        """What was computed so far."""
        return self._statistics

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        """Queue requests; one that does not go on from its row's tokens starts that row anew."""
        queued = {request.row for request in self._new}
        for request in requests:
            row = self._rows.get(request.row)
            if request.row in queued or (row is not None and row.state is _State.LIVE):
                raise EngineError(f"row {request.row} was submitted twice; poll its completion first")
            if row is not None:
                known = len(row.group.token_ids) + row.cached
                if len(request.token_ids) > known and request.token_ids[:known] == tuple(row.token_ids[:known]):
                    row.state = _State.LIVE
                    self._continued.append((row, request))
                    continue
                self.release(request.row)
            queued.add(request.row)
            self._new.append(request)

    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        """Decode until a row completes; `interrupt` is asked before every step."""
        decoder = self._decoder
        device_type = decoder.device.type
        # without a cache: weights cast under no_grad must not be found again by the training step's autocast
        casts = torch.autocast(device_type, dtype=decoder.dtype, enabled=decoder.autocasts, cache_enabled=False)
        with torch.no_grad(), casts:
            while not self._done:
                self._continue_rows()
                self._start_rows()
                if self._done or not any(row.state is _State.LIVE for row in self._slots):
                    break
                if interrupt is not None and interrupt():
                    break
                self._step()
        done, self._done = self._done, []
        return done

    def release(self, row: int) -> None:
        """Free the row's slot; a request of it that is under way is dropped."""
        self._new = deque(request for request in self._new if request.row != row)
        self._continued = [(kept, request) for kept, request in self._continued if kept.row != row]
        found = self._rows.pop(row, None)
        if found is not None:
            found.state = _State.FREE
            found.group.num_rows -= 1
            self._batch = None

    def _continue_rows(self) -> None:
        """Compute what was appended to continued rows, and sample their next token."""
        if not self._continued:
            return
        batch, self._continued = self._continued, []
        slot_of = {row.row: slot for slot, row in enumerate(self._slots) if row.state is _State.LIVE}
        runs: list[Run] = []
        for row, request in batch:
            known = len(row.group.token_ids) + row.cached
            row.token_ids = list(request.token_ids)
            row.seed, row.budget_end = as_int64(request.seed), len(request.token_ids) + request.max_new_tokens
            runs.append(
                Run(
                    token_ids=request.token_ids[known:],
                    slot=slot_of[row.row],
                    start=row.cached,
                    prefix_slot=row.group.slot,
                    prefix_length=len(row.group.token_ids),
                )
            )
            row.cached += len(runs[-1].token_ids)
            row.first_sampled, row.logprobs = len(row.token_ids), []
        self._suffixes.reserve(len(self._slots), max(row.cached for row, _ in batch) + 1)
        self._sample([row for row, _ in batch], self._decoder.logits(self._compute(runs, self._suffixes)))
        self._batch = None

    def _start_rows(self) -> None:
        """Let waiting rows in: prefill the prompts that are new, and sample each row's first token."""
        live = sum(row.state is _State.LIVE for row in self._slots)
        count = min(len(self._new), self._max_rows - live)
        if count <= 0:
            return
        requests = [self._new.popleft() for _ in range(count)]
        self._drop_groups({request.token_ids for request in (*requests, *self._new)})
        self._prefill([prompt for prompt in dict.fromkeys(r.token_ids for r in requests) if prompt not in self._groups])
        rows = [self._start_row(request) for request in requests]
        self._suffixes.reserve(len(self._slots), 16)
        groups = list({id(row.group): row.group for row in rows}.values())
        logits = self._decoder.logits(torch.cat([group.hidden for group in groups]))
        places = {id(group): place for place, group in enumerate(groups)}
        self._sample(rows, logits[torch.tensor([places[id(row.group)] for row in rows], device=logits.device)])
        self._batch = None

    def _start_row(self, request: GenerationRequest) -> _Row:
        group = self._groups[request.token_ids]
        group.num_rows += 1
        row = _Row(row=request.row, group=group, token_ids=list(request.token_ids), seed=as_int64(request.seed))
        row.first_sampled = len(request.token_ids)
        row.budget_end = row.first_sampled + request.max_new_tokens
        self._rows[request.row] = row
        free = next((slot for slot, old in enumerate(self._slots) if old.state is _State.FREE), None)
        if free is None:
            self._slots.append(row)
        else:
            self._slots[free] = row
        return row

    def _prefill(self, prompts: list[tuple[int, ...]]) -> None:
        """Compute prompts; what one shares with an earlier prompt is copied from there."""
        while prompts:
            # nothing to share yet: the first prompt is computed alone so that the others find it
            batch, prompts = (prompts, []) if self._prompts else (prompts[:1], prompts[1:])
            self._prefixes.reserve(len(self._groups) + len(batch), max(map(len, batch)))
            runs: list[Run] = []
            for slot, prompt in enumerate(batch, start=len(self._groups)):
                donor, shared = self._longest_shared(prompt)
                if donor is not None:
                    self._prefixes.copy(donor.slot, slot, shared)
                runs.append(Run(token_ids=prompt[shared:], slot=slot, start=shared))
            hidden = self._compute(runs, self._prefixes)
            for run, prompt, last in zip(runs, batch, hidden.split(1), strict=True):
                self._groups[prompt] = _Group(prompt, run.slot, last)
                bisect.insort(self._prompts, prompt)

    def _longest_shared(self, prompt: tuple[int, ...]) -> tuple[_Group | None, int]:
        """Return the group whose prompt shares the longest prefix, and its length; the last token is never shared."""
        at = bisect.bisect(self._prompts, prompt)
        best: tuple[_Group | None, int] = None, 0
        for neighbour in self._prompts[max(at - 1, 0) : at + 1]:
            pairs = enumerate(zip(prompt[:-1], neighbour, strict=False))
            shared = next((i for i, (a, b) in pairs if a != b), min(len(prompt) - 1, len(neighbour)))
            if shared > best[1]:
                best = self._groups[neighbour], shared
        return best

    def _drop_groups(self, wanted: set[tuple[int, ...]]) -> None:
        """Forget prompts that no row has and none waits for; the last slot moves into each hole."""
        for prompt in [p for p, group in self._groups.items() if group.num_rows == 0 and p not in wanted]:
            hole = self._groups.pop(prompt)
            self._prompts.remove(prompt)
            last = max(self._groups.values(), key=lambda group: group.slot, default=hole)
            if last.slot > hole.slot:
                self._prefixes.copy(last.slot, hole.slot, len(last.token_ids))
                last.slot = hole.slot

    def _compute(self, runs: list[Run], store: KVStore) -> torch.Tensor:
        """Append runs to their slots; return the hidden state of each one's last token, `[runs, H]`."""
        hidden: list[torch.Tensor] = []
        while runs:
            count, tokens = 1, len(runs[0].token_ids)
            while count < len(runs) and tokens + len(runs[count].token_ids) <= _TOKENS_PER_FORWARD:
                tokens += len(runs[count].token_ids)
                count += 1
            batch, runs = runs[:count], runs[count:]
            token_ids = [token_id for run in batch for token_id in run.token_ids]
            attention = RunAttention(self._decoder, self._prefixes, store, batch)
            inputs = torch.tensor(token_ids, device=self._decoder.device)
            states = self._decoder.forward(inputs, attention.positions, attention)
            lengths = torch.tensor([len(run.token_ids) for run in batch], device=states.device)
            hidden.append(states[lengths.cumsum(0) - 1])
            self._statistics += EngineStatistics(prefill_tokens=tokens)
        return torch.cat(hidden)

    def _step(self) -> None:
        """Sample one more token for every live row."""
        if self._batch is None:
            self._compact()
            rows = [row for row in self._slots if row.state is _State.LIVE]
            self._batch = _Batch(rows, list(self._groups.values()), self._decoder.device)
        batch = self._batch
        self._suffixes.reserve(len(self._slots), batch.longest + 1)
        attention = DecodeAttention(self._decoder, self._prefixes, self._suffixes, batch.layout, batch.lengths)
        hidden = self._decoder.forward(batch.token_ids, attention.positions, attention)
        for row in batch.rows:
            row.cached += 1
        logits = self._decoder.logits(hidden)
        batch.advance(self._sample(batch.rows, logits, batch.seeds, attention.positions + 1))

    def _compact(self) -> None:
        """Bring the live rows to the front and the parked ones after them; drop the free slots."""
        begin = 0
        for state in (_State.LIVE, _State.PARKED):
            end = begin + sum(row.state is state for row in self._slots)
            holes = [slot for slot in range(begin, end) if self._slots[slot].state is not state]
            sources = [slot for slot in range(end, len(self._slots)) if self._slots[slot].state is state]
            for hole, source in zip(holes, sources, strict=True):
                old, new = self._slots[hole], self._slots[source]
                if old.state is _State.FREE:
                    self._suffixes.copy(source, hole, new.cached)
                else:
                    self._suffixes.swap(source, hole, max(old.cached, new.cached))
                self._slots[hole], self._slots[source] = new, old
            begin = end
        del self._slots[begin:]

    def _sample(
        self,
        rows: list[_Row],
        logits: torch.Tensor,
        seeds: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw one token per row, `[B]`, and deliver the rows that end with it."""
        if seeds is None or positions is None:
            seeds = torch.tensor([row.seed for row in rows], device=logits.device)
            positions = torch.tensor([len(row.token_ids) for row in rows], device=logits.device)
        drawn, logprobs = sample_tokens(logits, self._sampling, uniforms(seeds, positions))
        for row, token_id, logprob in zip(rows, drawn.tolist(), logprobs.tolist(), strict=True):
            row.token_ids.append(token_id)
            row.logprobs.append(logprob)
            stopped = token_id in self._stop_token_ids
            if stopped or len(row.token_ids) >= row.budget_end:
                self._deliver(row, stopped)
        self._statistics += EngineStatistics(row_steps=len(rows))
        return drawn

    def _deliver(self, row: _Row, stopped: bool) -> None:
        completion = Completion(
            token_ids=tuple(row.token_ids[row.first_sampled :]),
            logprobs=tuple(row.logprobs),
            finish_reason="stop" if stopped else "length",
            policy_version=self._version,
        )
        self._done.append((row.row, completion))
        self._statistics += EngineStatistics(sampled_tokens=len(row.logprobs))
        row.state = _State.PARKED
        self._batch = None


class _Batch:
    """The live rows as tensors, kept from step to step until a row comes or goes."""

    def __init__(self, rows: list[_Row], groups: list[_Group], device: torch.device) -> None:
        prefix_lengths = [0] * len(groups)
        for group in groups:
            prefix_lengths[group.slot] = len(group.token_ids)
        self.rows = rows
        self.layout = GroupLayout([row.group.slot for row in rows], prefix_lengths, device)
        self.token_ids = torch.tensor([row.token_ids[-1] for row in rows], device=device)
        self.lengths = torch.tensor([row.cached for row in rows], device=device)
        self.seeds = torch.tensor([row.seed for row in rows], device=device)
        self.longest = max(row.cached for row in rows)

    def advance(self, token_ids: torch.Tensor) -> None:
        """Go on with the tokens just drawn."""
        self.token_ids = token_ids
        self.lengths = self.lengths + 1
        self.longest += 1

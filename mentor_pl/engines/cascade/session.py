"""The scheduler of `CascadeEngine`: which rows are computed when, and where their caches lie."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch

from mentor_pl.engines.base import EngineSession, EngineStatistics, GenerationRequest, SamplingParams
from mentor_pl.engines.cascade.attention import DecodeAttention
from mentor_pl.engines.cascade.graphs import DecodeGraphs, Record
from mentor_pl.engines.cascade.kv_store import KVStore
from mentor_pl.engines.cascade.prefill import TOKENS_PER_FORWARD, compute_runs
from mentor_pl.engines.cascade.prompt_cache import PromptCache
from mentor_pl.engines.cascade.rows import DecodeBatch, Row, RowState
from mentor_pl.engines.cascade.run_attention import MixedAttention, Run, RunAttention
from mentor_pl.engines.cascade.token_decoder import TokenDecoder
from mentor_pl.engines.sampling import as_int64, sample_tokens, uniforms
from mentor_pl.errors import EngineError
from mentor_pl.trajectory import Completion


class CascadeSession(EngineSession):
    """A rollout on a `TokenDecoder`; see `EngineSession`.

    Slots of the suffix store hold the live rows first, then the parked ones. A row that finishes
    stays where it is until the next step is due: a fast tool has answered by then and nothing has
    to be moved.
    """

    def __init__(
        self,
        decoder: TokenDecoder,
        version: int,
        sampling: SamplingParams,
        stop_token_ids: tuple[int, ...],
        max_rows: int,
        recorder: Callable[[], Record] | None = None,
    ) -> None:
        self._decoder, self._version = decoder, version
        self._sampling, self._stop_token_ids = sampling, frozenset(stop_token_ids)
        self._max_rows = max_rows
        self._prompts = PromptCache(decoder)
        # recordings are void when the store grows
        self._suffixes = KVStore(decoder, granularity=256 if recorder else 16)
        self._graphs = DecodeGraphs(decoder, self._prompts.store, self._suffixes, recorder) if recorder else None
        # continued rows that go on together, as a share of the live ones: a recurrent state wants whole forwards for what is
        # appended, and beside recorded steps a forward is as dear as five to ten of them
        self._wanted_share = 1.0 if decoder.is_recurrent else 0.25 if recorder else 0.0
        self._rows: dict[int, Row] = {}
        self._slots: list[Row] = []
        self._new: deque[GenerationRequest] = deque()
        self._held: list[tuple[Row, GenerationRequest]] = []  # to be continued, together with others
        self._continued: list[tuple[Row, GenerationRequest]] = []
        self._done: list[tuple[int, Completion]] = []
        self._batch: DecodeBatch | None = None
        self._statistics = EngineStatistics()

    @property
    def statistics(self) -> EngineStatistics:
        """What was computed so far."""
        return self._statistics

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        """Queue requests; one that does not go on from its row's tokens starts that row anew."""
        queued = {request.row for request in (*self._new, *(request for _, request in self._held))}
        for request in requests:
            row = self._rows.get(request.row)
            if request.row in queued or (row is not None and row.state is RowState.LIVE):
                raise EngineError(f"row {request.row} was submitted twice; poll its completion first")
            if row is not None:
                known = len(row.prompt.token_ids) + row.cached
                if len(request.token_ids) > known and request.token_ids[:known] == tuple(row.token_ids[:known]):
                    queued.add(request.row)
                    self._held.append((row, request))
                    continue
                self.release(request.row)
            queued.add(request.row)
            self._new.append(request)

    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        """Decode until a row completes; `interrupt` is asked before every step."""
        decoder = self._decoder
        alone = decoder.self_contained
        # without a cache: weights cast under no_grad must not be found again by the training step's autocast
        casts = torch.autocast(
            decoder.device.type, dtype=decoder.dtype, enabled=decoder.autocasts and not alone, cache_enabled=False
        )
        with torch.inference_mode() if alone else torch.no_grad(), casts:
            while not self._done:
                self._start_rows()
                self._continue_rows()
                if self._done or not any(row.state is RowState.LIVE for row in self._slots):
                    break
                if interrupt is not None and interrupt():
                    break
                self._step()
        done, self._done = self._done, []
        return done

    def release(self, row: int) -> None:
        """Free the row's slot; a request of it that is under way is dropped."""
        self._new = deque(request for request in self._new if request.row != row)
        self._held = [(kept, request) for kept, request in self._held if kept.row != row]
        self._continued = [(kept, request) for kept, request in self._continued if kept.row != row]
        found = self._rows.pop(row, None)
        if found is not None:
            found.state = RowState.FREE
            found.prompt.num_rows -= 1
            self._batch = None

    def _start_rows(self) -> None:
        """Let waiting rows in: prefill the prompts that are new, and sample each row's first token."""
        live = sum(row.state is RowState.LIVE for row in self._slots)
        count = min(len(self._new), self._max_rows - live)
        if count <= 0:
            return
        requests = [self._new.popleft() for _ in range(count)]
        self._prompts.drop_unused({request.token_ids for request in (*requests, *self._new)})
        computed = self._prompts.add(request.token_ids for request in requests)
        self._statistics += EngineStatistics(prefill_tokens=computed)
        rows = [self._start_row(request) for request in requests]
        self._suffixes.reserve(len(self._slots), 16)
        if self._suffixes.states is not None and self._prompts.store.states is not None:
            slots = {row: slot for slot, row in enumerate(self._slots)}
            self._suffixes.states.take(self._prompts.store.states, [(row.prompt.slot, slots[row]) for row in rows])
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        logits = self._decoder.logits(torch.cat([prompt.hidden for prompt in prompts]))
        places = {prompt: place for place, prompt in enumerate(prompts)}
        self._sample(rows, logits[torch.tensor([places[row.prompt] for row in rows], device=logits.device)])
        self._batch = None

    def _continue_rows(self) -> None:
        """Let continued rows go on. Where what is appended costs as much as several steps, rows wait for one another."""
        live = sum(row.state is RowState.LIVE for row in self._slots)
        if len(self._held) < max(1, self._wanted_share * live):
            return
        for row, _ in self._held:
            row.state = RowState.LIVE
        self._continued += self._held
        self._held, self._batch = [], None

    def _start_row(self, request: GenerationRequest) -> Row:
        prompt = self._prompts[request.token_ids]
        prompt.num_rows += 1
        row = Row(row=request.row, prompt=prompt, token_ids=list(request.token_ids), seed=as_int64(request.seed))
        row.first_sampled = len(request.token_ids)
        row.budget_end = row.first_sampled + request.max_new_tokens
        self._rows[request.row] = row
        free = next((slot for slot, old in enumerate(self._slots) if old.state is RowState.FREE), None)
        if free is None:
            self._slots.append(row)
        else:
            self._slots[free] = row
        return row

    def _step(self) -> None:
        """Sample one more token for every live row, and compute along with it what was appended to continued ones."""
        if self._batch is None:
            self._compact()
        runs = self._append()
        if self._batch is None:
            rows = [row for row in self._slots if row.state is RowState.LIVE]
            self._batch = DecodeBatch(rows, self._prompts.lengths(), self._decoder.device)
        batch = self._batch
        logits = self._logits(batch, runs)
        for row in batch.rows:
            row.cached += 1
        batch.advance(self._sample(batch.rows, logits, batch.seeds, batch.positions + 1))

    def _logits(self, batch: DecodeBatch, runs: list[Run]) -> torch.Tensor:
        """Compute what was appended and one token of every live row; return the logits of these, `[B, V]`."""
        decoder, prefixes, suffixes = self._decoder, self._prompts.store, self._suffixes
        suffixes.reserve(len(self._slots), batch.longest + 1)
        alone = self._graphs is not None or decoder.is_recurrent
        if runs and (alone or sum(len(run.token_ids) for run in runs) > TOKENS_PER_FORWARD):
            compute_runs(decoder, prefixes, suffixes, runs)
            runs = []
        if self._graphs is not None:
            return self._graphs.logits(batch.layout, batch.token_ids, batch.lengths, batch.longest, len(self._slots))
        attention = DecodeAttention(decoder, prefixes, suffixes, batch.layout, batch.lengths, batch.longest + 1)
        if not runs:
            hidden = decoder.forward(batch.token_ids, attention.positions, attention.end, attention)
            return decoder.logits(hidden)
        appending = RunAttention(decoder, prefixes, suffixes, runs)
        hidden = decoder.forward(
            torch.cat([appending.token_ids, batch.token_ids]),
            torch.cat([appending.positions, attention.positions]),
            max(appending.end, attention.end),
            MixedAttention(appending, attention),
            len(appending.token_ids) + torch.arange(len(batch.rows), device=decoder.device),
        )
        return decoder.logits(hidden)

    def _append(self) -> list[Run]:
        """Give continued rows their new tokens; all but the last, which is decoded like any row's, have to be computed."""
        slots = {row.row: slot for slot, row in enumerate(self._slots)} if self._continued else {}
        runs: list[Run] = []
        for row, request in self._continued:
            prefix_length = len(row.prompt.token_ids)
            appended = request.token_ids[prefix_length + row.cached : -1]
            if appended:
                runs.append(Run(appended, slots[row.row], row.cached, row.prompt.slot, prefix_length))
            row.token_ids, row.logprobs = list(request.token_ids), []
            row.seed, row.first_sampled = as_int64(request.seed), len(request.token_ids)
            row.budget_end = len(request.token_ids) + request.max_new_tokens
            row.cached += len(appended)
            self._statistics += EngineStatistics(prefill_tokens=len(appended) + 1)
        self._continued.clear()
        return runs

    def _compact(self) -> None:
        """Bring the live rows to the front and the parked ones after them; drop the free slots."""
        order, begin = list(self._slots), 0
        for state in (RowState.LIVE, RowState.PARKED):
            end = begin + sum(row.state is state for row in order)
            holes = [slot for slot in range(begin, end) if order[slot].state is not state]
            sources = [slot for slot in range(end, len(order)) if order[slot].state is state]
            for hole, source in zip(holes, sources, strict=True):
                order[hole], order[source] = order[source], order[hole]
            begin = end
        before = {row: slot for slot, row in enumerate(self._slots)}
        moves = [(before[row], slot) for slot, row in enumerate(order[:begin]) if before[row] != slot]
        self._slots = order[:begin]
        self._suffixes.move(moves, max((self._slots[slot].cached for _, slot in moves), default=0))

    def _sample(
        self,
        rows: list[Row],
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

    def _deliver(self, row: Row, stopped: bool) -> None:
        completion = Completion(
            token_ids=tuple(row.token_ids[row.first_sampled :]),
            logprobs=tuple(row.logprobs),
            finish_reason="stop" if stopped else "length",
            policy_version=self._version,
        )
        self._done.append((row.row, completion))
        self._statistics += EngineStatistics(sampled_tokens=len(row.logprobs))
        row.state = RowState.PARKED
        self._batch = None

"""Rollouts by vLLM servers: the trainer's weights are sent there, probed, and sampled from."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mentor_pl.adapters import is_adapter
from mentor_pl.causal_model import vocab_size
from mentor_pl.engines.base import EngineSession, RolloutEngine, SamplingParams
from mentor_pl.engines.vllm.exchange import ExchangeFolder
from mentor_pl.engines.vllm.probe import Probe, Reading, adapter_doubled, probe_text, text_logprobs
from mentor_pl.engines.vllm.weights import write_weights
from mentor_pl.errors import ConfigError, EngineError

if TYPE_CHECKING:  # these import aiohttp, which only this engine needs
    from mentor_pl.engines.vllm.client import VLLMClient
    from mentor_pl.engines.vllm.server import VLLMServer
    from mentor_pl.engines.vllm.session import Served


_FLOAT32_TOLERANCE = 0.001
_HALF_TOLERANCE = 0.3
"""Nats a token; several times what was measured of right servers (docs/servers.md)."""


class VLLMEngine(RolloutEngine):
    """Samples on one or more vLLM servers, which were started with the student's model. See docs/servers.md.

    Of a LoRA student only the adapter is sent, under a new name for each version; of any other the
    whole weights. Both go through a folder that this machine and the servers share. After each sync
    the server's log-probabilities of a fixed text are compared with the trainer's, so that a server
    with stale, missing or twice-added weights is an error and not a bad run (see `probe`).
    """

    holds_own_weights = True

    def __init__(
        self,
        urls: list[str],
        exchange_dir: str | None = None,
        timeout_s: float = 600.0,
        max_retries: int = 3,
        max_concurrent_rows: int = 256,
        probe_tolerance: float | None = None,
    ) -> None:
        """Set the engine up; no server is asked before the first sync.

        Args:
            urls: The servers, for example `[http://localhost:8000]`.
            exchange_dir: Where weights are put for the servers; on other machines or in containers
                they must see it under the same path. By default a temporary folder of this machine.
            timeout_s: Longest silence of a server that works on a request.
            max_retries: How often a request is repeated after a cut connection or a busy server's
                refusal.
            max_concurrent_rows: Rows under way at one server; more wait here.
            probe_tolerance: Largest deviation of a server's log-probabilities from the trainer's
                (root mean square over random tokens, nats) that is put down to its arithmetic; by
                default as its dtype, or the trainer's where that is coarser, calls for.

        Raises:
            ConfigError: An argument lies outside its range.
        """
        try:
            import aiohttp  # noqa: F401
        except ImportError:
            raise ConfigError("VLLMEngine needs aiohttp; install 'mentor-pl[vllm]'") from None
        if not urls or len(set(urls)) < len(urls):
            raise ConfigError(f"VLLMEngine.urls is {urls}; name each server once, for example [http://localhost:8000]")
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
                raise ConfigError(f"VLLMEngine.urls holds {url!r}; a server's address is like http://localhost:8000")
        for key, value, least in (
            ("timeout_s", timeout_s, 1),
            ("max_retries", max_retries, 0),
            ("max_concurrent_rows", max_concurrent_rows, 1),
            ("probe_tolerance", probe_tolerance or 0, 0),
        ):
            if value < least:
                raise ConfigError(f"VLLMEngine.{key} is {value}; it must be at least {least}")
        self._urls = [url.rstrip("/") for url in urls]
        self._exchange_dir = exchange_dir
        self._timeout_s, self._max_retries, self._max_concurrent = timeout_s, max_retries, max_concurrent_rows
        self._probe_tolerance = probe_tolerance
        self._run = uuid.uuid4().hex[:8]
        self._syncs = 0
        self._client: VLLMClient | None = None
        self._servers: list[VLLMServer] = []
        self._served: Served | None = None
        self._present: Tensor | None = None
        self._exchange: ExchangeFolder | None = None
        self._folder: Path | None = None
        self._probes: dict[str, Probe] = {}

    # Weights --------------------------------------------------------------------------------------------------

    def sync(self, model: nn.Module, version: int) -> None:
        """Send the weights to every server and probe each. Where several ranks train, rank 0 does so and all wait.

        Raises:
            EngineError: A server cannot be reached, refuses the weights, or does not hold them
                afterwards.
        """
        if _world_size() == 1:
            self._update(model, version)
            return
        dist.barrier()  # until every rank is done sampling with the weights that will be replaced
        failure: Exception | None = None
        if dist.get_rank() == 0:
            try:
                self._update(model, version)
            except Exception as error:  # the other ranks wait
                failure = error
        shared: list[Any] = [failure and str(failure), self._served]
        dist.broadcast_object_list(shared, src=0)
        if failure is not None:
            raise failure
        if shared[0] is not None:
            raise EngineError(shared[0])
        self._served = shared[1]

    def _update(self, model: nn.Module, version: int) -> None:
        text = probe_text(vocab_size(model))
        present = text_logprobs(model, text)
        if self._served is not None and self._served.version == version and self._holds(present):
            return  # asked for once more: evaluation does so for each of its batches
        outdated, self._served = self._served, None
        self._syncs += 1
        served = self._send(model, version, outdated)
        self._check(model, served, text, present)
        self._served, self._present = served, present

    def _holds(self, present: Tensor) -> bool:
        """Whether the weights are those last sent; a restored checkpoint may have the same version and others."""
        return self._present is not None and torch.equal(self._present, present)

    def _send(self, model: nn.Module, version: int, outdated: Served | None) -> Served:
        from mentor_pl.engines.vllm.session import Served

        servers = self._ready_servers()
        label = f"mentor-{self._run}-{self._syncs}-v{version}"
        former, self._folder = self._folder, self._exchange_folder() / label
        write_weights(model, self._folder)
        if is_adapter(model):
            models = {server.url: label for server in servers}
            loading = [server.load_adapter(label, self._folder) for server in servers]
        else:
            models = {server.url: server.base_model for server in servers}
            loading = [server.load_model(self._folder) for server in servers]
        for load in loading:
            load.result()
        if not is_adapter(model):
            shutil.rmtree(self._folder)  # a server may read an adapter again, but never the whole model
        for server in servers:
            server.stamp(label)
            if outdated is not None and outdated.models[server.url] == outdated.label:
                server.unload_adapter(outdated.label)
        if former is not None:
            shutil.rmtree(former, ignore_errors=True)
        return Served(version=version, label=label, models=models)

    def _check(self, model: nn.Module, served: Served, text: Sequence[Sequence[int]], present: Tensor) -> None:
        """Probe every server."""
        without: Tensor | None = None
        wrong: dict[str, Tensor] = {}
        if is_adapter(model):
            with model.disable_adapter():
                without = text_logprobs(model, text)
            with adapter_doubled(model):
                wrong["those with the adapter added twice"] = text_logprobs(model, text)
            wrong["those without the adapter: it was never added"] = without
        for server in self._ready_servers():
            if server.url not in self._probes:
                server.check_logprobs_mode(served.models[server.url])
                tolerance = self._probe_tolerance or _tolerance(model, server)
                self._probes[server.url] = probe = Probe(server.url, tolerance)
                if without is not None:
                    said = server.text_logprobs(server.base_model, text)
                    probe.check(
                        Reading(weights="the student without its adapter", trainer=without, server=said),
                        {"those with the adapter: it is merged into the served model": present},
                    )
            said = server.text_logprobs(served.models[server.url], text)
            reading = Reading(weights=f"version {served.version}", trainer=present, server=said)
            self._probes[server.url].check(reading, wrong)

    # Sampling -------------------------------------------------------------------------------------------------

    @contextmanager
    def session(self, sampling: SamplingParams, stop_token_ids: Sequence[int]) -> Iterator[EngineSession]:
        """Open a session with every server.

        Raises:
            EngineError: No weights were sent yet, or a server has lost them before the session's
                end.
        """
        from mentor_pl.engines.vllm.session import VLLMSession

        if self._served is None:
            raise EngineError("VLLMEngine has no weights yet; call sync(model, version) before session()")
        served, servers = self._served, self._ready_servers()
        assert self._client is not None
        first = dist.get_rank() if _world_size() > 1 else 0
        session = VLLMSession(self._client, served, sampling, stop_token_ids, first_server=first)
        for server in servers:
            server.check_stamp(served.label)
        try:
            yield session
        finally:
            session.abandon()
        for server in servers:
            server.check_stamp(served.label)

    def close(self) -> None:
        """Drop what is under way and the weights' folder. The servers go on."""
        if self._client is not None:
            self._client.close()
        if self._exchange is not None:
            self._exchange.close()
        self._client = self._exchange = self._folder = self._served = None
        self._servers, self._probes = [], {}

    def _ready_servers(self) -> list[VLLMServer]:
        from mentor_pl.engines.vllm.client import VLLMClient
        from mentor_pl.engines.vllm.server import VLLMServer

        if self._client is None:
            self._client = client = VLLMClient(
                timeout_s=self._timeout_s, max_retries=self._max_retries, max_concurrent=self._max_concurrent
            )
            self._servers = [VLLMServer(url, client) for url in self._urls]
        return self._servers

    def _exchange_folder(self) -> Path:
        """Return this run's folder, which goes with the process."""
        if self._exchange is None:
            try:
                self._exchange = ExchangeFolder(Path(self._exchange_dir or tempfile.gettempdir()))
            except OSError as failure:
                raise ConfigError(
                    f"VLLMEngine.exchange_dir is {self._exchange_dir!r}, where nothing can be written: {failure}"
                ) from failure
        return self._exchange.path


def _tolerance(model: nn.Module, server: VLLMServer) -> float:
    """Return what the coarser of two arithmetics may make of the probe's text."""
    device = next(model.parameters()).device.type
    autocast = torch.is_autocast_enabled(device)
    trainer = torch.get_autocast_dtype(device) if autocast else next(model.parameters()).dtype
    fine = trainer == torch.float32 and server.dtype == "float32"
    return _FLOAT32_TOLERANCE if fine else _HALF_TOLERANCE


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

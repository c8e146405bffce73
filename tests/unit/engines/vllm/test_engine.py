"""VLLMEngine against a stand-in server that reads what is really sent; tests/integration/engines has the real one."""

import threading

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close

from mentor_pl.engines.base import EngineStatistics, GenerationRequest, SamplingParams
from mentor_pl.engines.vllm.client import VLLMClient
from mentor_pl.engines.vllm.engine import VLLMEngine
from mentor_pl.errors import ConfigError, EngineError
from tests.unit.engines.models import full_forward_logprobs, tiny_model
from tests.unit.engines.vllm.stand_in_server import serving

pytestmark = pytest.mark.integration  # a server each

PROMPT = (5, 6, 7, 8, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    tiny_model("llama3-rope").save_pretrained(folder)
    return folder


@pytest.fixture
def server(folder):
    with serving(folder) as server:
        yield server


@pytest.fixture
def engine(server):
    engine = VLLMEngine([server.url], max_retries=1)
    yield engine
    engine.close()


def student(adapter=False, std=0.05):
    model = tiny_model("llama3-rope")
    if not adapter:
        return model
    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    return model


def update(model, std=0.01):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn(parameter.shape) * std)


def request(row=0, token_ids=PROMPT, max_new_tokens=4, seed=1):
    return GenerationRequest(row=row, token_ids=tuple(token_ids), max_new_tokens=max_new_tokens, seed=seed)


def complete(engine, requests, sampling=SamplingParams(), stop=()):  # noqa: B008 - frozen
    done = {}
    with engine.session(sampling, stop) as session:
        session.submit(requests)
        while batch := session.poll():
            done.update(batch)
        return done, session.statistics


# Weights


@pytest.mark.parametrize("adapter", [False, True])
def test_each_version_is_what_samples(engine, server, adapter):
    model = student(adapter)
    for version in (3, 4):
        engine.sync(model, version)
        done, _ = complete(engine, [request()])
        exact = full_forward_logprobs(model, [*PROMPT, *done[0].token_ids])[len(PROMPT) - 1 :]
        assert_close(torch.tensor(done[0].logprobs), exact, atol=1e-4, rtol=0)
        assert done[0].policy_version == version
        assert server.stamp.endswith(f"-v{version}")
        update(model)


def test_only_the_adapter_is_sent_and_only_the_last_one_is_kept(engine, server):
    model = student(adapter=True)
    engine.sync(model, 1)
    update(model)
    engine.sync(model, 2)
    assert not [path for path, _ in server.requests if path == "/collective_rpc"]
    assert list(server.adapters) == [server.stamp]


def test_weights_that_are_there_are_not_sent_again(engine, server):
    model = student()
    engine.sync(model, 0)
    asked = len(server.requests)
    engine.sync(model, 0)
    assert len(server.requests) == asked
    update(model)  # as a checkpoint of the same version does, restored in between
    engine.sync(model, 0)
    assert [path for path, _ in server.requests].count("/collective_rpc") == 2


def test_no_weights_stay_on_disk(engine, server, tmp_path):
    engine = VLLMEngine([server.url], exchange_dir=str(tmp_path / "exchange"))
    (tmp_path / "exchange").mkdir()
    model = student(adapter=True)
    for version in (1, 2):
        engine.sync(model, version)
        assert len(list(tmp_path.glob("exchange/*/*/adapter_model.safetensors"))) == 1
        update(model)
    engine.close()
    assert list(tmp_path.glob("exchange/*")) == []


# The probe's place in a sync; its judgement is tested in test_probe.py


def test_an_adapter_that_is_not_taken_in_is_caught(engine, server):
    server.ignores_adapters = True
    with pytest.raises(EngineError, match=f"{server.url} does not hold the weights of version 5: .* was never added"):
        engine.sync(student(adapter=True), 5)


def test_weights_that_are_not_taken_in_are_caught(engine, server):
    model = student()
    engine.sync(model, 1)
    server.deaf_to = {"/collective_rpc"}
    update(model, 1e-5)
    with pytest.raises(EngineError, match="agrees with those of version 1: what was sent since did not arrive"):
        engine.sync(model, 2)
    with pytest.raises(EngineError, match="no weights yet"), engine.session(SamplingParams(), ()):
        pass


def test_a_server_of_another_model_is_refused(engine):
    model = student(adapter=True)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.5)
    with pytest.raises(EngineError, match="computes other log-probabilities than the trainer for the student without"):
        engine.sync(model, 0)


def test_raw_logprobs_are_refused(engine, server):
    server.raw_logprobs = True
    with pytest.raises(EngineError, match="start it with --logprobs-mode processed_logprobs"):
        engine.sync(student(), 0)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_server_that_was_restarted_is_noticed(engine, server, when):
    engine.sync(student(), 0)
    if when == "before":
        server.stamp = "default"
    with (
        pytest.raises(EngineError, match="holds the weights 'default' in place of 'mentor-.*-v0': it was restarted"),
        engine.session(SamplingParams(), ()) as session,
    ):
        session.submit([request()])
        session.poll()
        server.stamp = "default"


# Requests


def test_what_a_request_says(engine, server):
    engine.sync(student(), 0)
    server.requests.clear()
    sampling = SamplingParams(temperature=0.6, top_k=20, top_p=0.9, min_p=0.1)
    complete(engine, [request(max_new_tokens=3, seed=11)], sampling, stop=(90, 91))
    [body] = server.completions()
    assert isinstance(body.pop("seed"), int)
    assert body == {
        "model": "base",
        "prompt": list(PROMPT),
        "max_tokens": 3,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": [90, 91],
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
    }


def test_seeds_are_passed_on_and_differ_between_turns(engine, server):
    engine.sync(student(), 0)
    server.requests.clear()
    for turn in ((PROMPT, 1), (PROMPT, 1), (PROMPT, 2), ((*PROMPT, 3), 1)):
        complete(engine, [request(token_ids=turn[0], seed=turn[1])])
    first, again, other, later = (body["seed"] for body in server.completions())
    assert first == again
    assert len({first, other, later}) == 3


def test_a_completion_ends_with_its_stop_token(engine):
    engine.sync(student(), 0)
    free, statistics = complete(engine, [request(max_new_tokens=8)])
    assert (len(free[0].token_ids), free[0].finish_reason) == (8, "length")
    assert statistics == EngineStatistics(prefill_tokens=5, row_steps=8, sampled_tokens=8)
    stop = free[0].token_ids[3]
    length = free[0].token_ids.index(stop) + 1
    done, _ = complete(engine, [request(max_new_tokens=8)], stop=(stop,))
    assert done[0].token_ids == free[0].token_ids[:length]
    assert done[0].finish_reason == "stop"


def test_a_prompts_rows_go_to_one_server_and_so_do_their_later_turns(folder):
    with serving(folder) as one, serving(folder) as other:
        engine = VLLMEngine([one.url, other.url])
        engine.sync(student(), 0)
        one.requests.clear(), other.requests.clear()
        prompts = [(5, 6), (7, 8), (9, 10), (11, 12)]
        with engine.session(SamplingParams(), ()) as session:
            session.submit([request(row, prompts[row // 3], max_new_tokens=1) for row in range(12)])
            done = {}
            while batch := session.poll():
                done.update(batch)
            session.submit([request(4, (*prompts[1], *done[4].token_ids, 3), max_new_tokens=1)])
            assert [row for row, _ in session.poll()] == [4]
        engine.close()
        asked = [[tuple(body["prompt"][:2]) for body in server.completions()] for server in (one, other)]
    assert sorted(map(len, asked)) == [6, 7]
    assert not set(asked[0]) & set(asked[1])


def test_requests_are_under_way_together_and_an_interrupt_ends_the_wait(engine, server):
    engine.sync(student(), 0)
    server.requests.clear()
    server.hold = threading.Event()
    with engine.session(SamplingParams(), ()) as session:
        assert session.poll() == []
        session.submit([request(row) for row in range(8)])
        assert session.poll(interrupt=lambda: len(server.completions()) == 8) == []
        server.hold.set()
        done = {}
        while batch := session.poll():
            done.update(batch)
    assert sorted(done) == list(range(8))


def test_leaving_a_session_drops_what_is_under_way(engine, server):
    engine.sync(student(), 0)
    server.hold = threading.Event()
    with engine.session(SamplingParams(), ()) as session:
        session.submit([request()])
        under_way = session._under_way[0]
    assert under_way.cancelled()
    server.hold.set()


# Failures


@pytest.mark.parametrize("failure", [429, 503, "cut"])
def test_a_busy_server_or_a_cut_connection_is_asked_again(engine, server, failure):
    engine.sync(student(), 0)
    expected, _ = complete(engine, [request()])
    server.failures = [failure]
    assert complete(engine, [request()])[0] == expected


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([503, 503], "answered HTTP 503 to /v1/completions: .*as told.*tried 2 times.*scripts/vllm_server.sh"),
        (["cut", "cut"], "cannot be reached: .*tried 2 times"),
        ([400], "answered HTTP 400 to /v1/completions: .*as told.*--max-model-len"),
    ],
)
def test_what_does_not_pass_is_an_error(engine, server, failures, message):
    engine.sync(student(), 0)
    server.failures = failures
    with pytest.raises(EngineError, match=f"vLLM server {server.url} {message}"):
        complete(engine, [request()])


def test_a_server_that_hangs_is_an_error_and_is_not_asked_again(server):
    client = VLLMClient(timeout_s=0.2, max_retries=3, max_concurrent=1)
    server.hold = threading.Event()
    with pytest.raises(EngineError, match=f"{server.url} said nothing to /v1/completions for 0.2 s; .*timeout_s"):
        client.ask(server.url, "/v1/completions", {"model": "base", "prompt": [1], "max_tokens": 1})
    server.hold.set()
    assert len(server.completions()) == 1
    client.close()


def test_nobody_at_the_address():
    engine = VLLMEngine(["http://127.0.0.1:9"], max_retries=0)
    with pytest.raises(EngineError, match="http://127.0.0.1:9 cannot be reached: .*start it"):
        engine.sync(student(), 0)
    engine.close()


def test_a_server_without_runtime_adapters_says_how_to_start_it(engine, server):
    server._answer = lambda path, body: (404, "Not Found") if "lora" in path else (200, {"data": [{"id": "base"}]})
    with pytest.raises(EngineError, match="HTTP 404 to /v1/load_lora_adapter.*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        engine.sync(student(adapter=True), 0)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    engine = VLLMEngine([server.url], exchange_dir=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="exchange_dir is '.*nowhere', where nothing can be written"):
        engine.sync(student(), 0)
    engine.close()


def test_temperatures_that_vllm_would_change_are_refused(engine):
    engine.sync(student(), 0)
    with pytest.raises(EngineError, match="temperature is 0.001, but vLLM raises"):
        complete(engine, [request()], SamplingParams(temperature=0.001))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"urls": []}, "name each server once"),
        ({"urls": ["http://a:1", "http://a:1"]}, "name each server once"),
        ({"urls": ["localhost:8000"]}, "holds 'localhost:8000'; a server's address is like"),
        ({"urls": ["http://a:1/v1"]}, "holds 'http://a:1/v1'"),
        ({"urls": ["http://a:1"], "timeout_s": 0}, "timeout_s is 0"),
        ({"urls": ["http://a:1"], "max_retries": -1}, "max_retries is -1"),
        ({"urls": ["http://a:1"], "probe_tolerance": -0.1}, "probe_tolerance is -0.1"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(ConfigError, match=message):
        VLLMEngine(**options)

"""A small OpenAI-compatible endpoint, run as a process of its own: a teacher of sums that fails as it is told to.

    python endpoint.py LOG [--fault-rate R] [--faults NAME,...] [--kill-at N,N,... --victim-file FILE] [--bill-keys-once] ...

It prints its port, and writes a line to LOG for every request: when it came, which conversation it was (a digest), and what was done:
"paid" for a reply that a living client was given, "orphaned" for one to a client that was killed while it waited, which a real endpoint may
bill too; "known" for one that was orphaned before and is not billed again, because its idempotency key is known (`--bill-keys-once`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("429", "500", "503", "timeout", "cut", "garbage", "no_choices")


class Endpoint:
    def __init__(self, options):
        self.options = options
        self.log = open(options.log, "a", buffering=1)  # noqa: SIM115 - lives as long as the process
        self.lock = threading.Lock()
        self.quiet = threading.Lock()
        self.asked: dict[str, int] = {}
        self.requests = 0
        self.kills = 0
        self.billed: set[str] = set()
        self.faults = options.faults.split(",")
        self.kill_at = [int(n) for n in options.kill_at.split(",") if n]

    def note(self, **row):
        with self.lock:
            self.log.write(json.dumps({"time": time.time(), **row}) + "\n")

    def fault(self, digest):
        """Decide by the conversation and how often it was asked, so that the order of requests does not matter."""
        with self.lock:
            times = self.asked[digest] = self.asked.get(digest, 0) + 1
        rng = random.Random(f"{digest}/{times}")
        faulty = rng.random() < self.options.fault_rate or times <= self.options.faulty_tries
        return rng.choice(self.faults) if faulty else None

    def kill_if_due(self):
        with self.lock:
            self.requests += 1
            due = self.kill_at and self.requests >= self.kill_at[0]
            if due:
                self.kill_at.pop(0)
        if due:
            # Nothing else is answered meanwhile: what was delivered has been taken in, what was not is not paid for.
            with self.quiet:
                time.sleep(0.3)
                os.kill(int(Path(self.options.victim_file).read_text()), signal.SIGKILL)
                self.kills += 1


def next_message(messages):
    """Solve `(a + b) * c`: one call, then another, then the answer; or go wrong where the prompt says so."""
    question = next(m["content"] for m in messages if m["role"] == "user")
    a, b, c = (int(n) for n in re.findall(r"\d+", question)[:3])
    results = [m["content"] for m in messages if m["role"] == "tool"]
    if "badly" in question:
        return {"role": "assistant", "content": "It is \\boxed{-1}."}
    if "unknown tool" in question and not results:
        return call("sum", {"a": a, "b": b})
    if "malformed" in question and not results:
        return call("add", '{"a": 1, ')
    if not results:
        return call("add", {"a": a, "b": b})
    if len(results) == 1:
        return call("multiply", {"a": int(results[0]) if results[0].isdigit() else 0, "b": c})
    return {"role": "assistant", "content": f"It is \\boxed{{{results[1]}}}."}


def call(name, arguments):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call_id = f"call_{random.getrandbits(64):x}"
    function = {"name": name, "arguments": text}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def log_message(self, format, *args):
        pass

    def do_POST(self):
        endpoint = self.endpoint
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        digest = hashlib.sha256(json.dumps([body["messages"], body.get("tools")]).encode()).hexdigest()[:16]
        row = {"digest": digest, "key": self.headers.get("Idempotency-Key")}
        kills = endpoint.kills
        endpoint.kill_if_due()
        with endpoint.quiet:
            pass
        wanted = endpoint.options.want_key
        if wanted and self.headers.get("Authorization") != f"Bearer {wanted}":
            given = self.headers.get("Authorization", "")
            endpoint.note(**row, done="401")
            return self.answer(401, {"error": {"message": f"Incorrect API key provided: {given}"}})
        fault = endpoint.fault(digest)
        if fault in ("429", "500", "503"):
            headers = {"Retry-After": endpoint.options.retry_after} if fault == "429" else {}
            endpoint.note(**row, done=fault)
            return self.answer(int(fault), {"error": {"message": "try again"}}, headers)
        if fault == "timeout":
            endpoint.note(**row, done=fault)
            time.sleep(float(endpoint.options.hang))
            self.close_connection = True
            return None
        if fault == "garbage":
            endpoint.note(**row, done=fault)
            return self.send(200, b'{"choices": [{"mess')
        if fault == "no_choices":
            endpoint.note(**row, done=fault)
            return self.answer(200, {"object": "chat.completion", "choices": None})
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": next_message(body["messages"])}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        if fault == "cut":
            endpoint.note(**row, done=fault)
            data = json.dumps(reply).encode()
            self.send(200, data[: len(data) // 2], length=len(data))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        with endpoint.quiet:
            known = endpoint.options.bill_keys_once and row["key"] in endpoint.billed
            endpoint.billed.add(row["key"])
            done = "known" if known else "paid" if kills == endpoint.kills else "orphaned"
            endpoint.note(**row, done=done)
            return self.answer(200, reply)

    def answer(self, status, value, headers=None):
        self.send(status, json.dumps(value).encode(), headers=headers)

    def send(self, status, data, headers=None, length=None):
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(length or len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--faulty-tries", type=int, default=0, help="how often each conversation meets a fault first")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--bill-keys-once", action="store_true")
    parser.add_argument("--kill-at", default="")
    parser.add_argument("--victim-file", default="")
    parser.add_argument("--retry-after", default="0.05")
    parser.add_argument("--hang", default="1.5")
    parser.add_argument("--want-key", default="")
    Handler.endpoint = Endpoint(parser.parse_args())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

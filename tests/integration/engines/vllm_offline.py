"""Run by an interpreter that has vLLM: completes prompts of token ids as `vllm serve FOLDER` would by default, greedily.

Takes the folder; reads `{"prompts": [[...]], "max_tokens": ...}` from stdin; its last line holds token ids and finish reasons.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Complete, and print."""
    # vLLM starts its engine in another process, which must find this one's main guarded.
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM

    asked = json.load(sys.stdin)
    model = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=512, skip_tokenizer_init=False)
    sampling = model.get_default_sampling_params()  # of the folder's generation config
    sampling.temperature, sampling.max_tokens = 0.0, asked["max_tokens"]
    outputs = model.generate([{"prompt_token_ids": ids} for ids in asked["prompts"]], sampling)
    found = [{"ids": list(o.outputs[0].token_ids), "reason": o.outputs[0].finish_reason} for o in outputs]
    rendered = model.get_tokenizer().apply_chat_template(
        [{"role": "user", "content": "What is 2 + 3?"}], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    print(json.dumps({"completions": found, "rendered": list(rendered)}), flush=True)


if __name__ == "__main__":
    main()

"""A tokenizer of which every byte is the token of that number, so that golden arrays can be read; and a template of another family."""

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

CHATML = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
LLAMA = (
    "<|finetune_right_pad_id|>",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|python_tag|>",
)
"""Special tokens, from 256 on: the first one pads, the second one ends a turn."""

# The conventions of Llama 3.1: schemas in the first user message, one JSON call per turn, results JSON-escaped under `ipython`.
LLAMA_TEMPLATE = """\
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
    {%- if message.role == 'tool' -%}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + (message.content | tojson) + '<|eot_id|>' -}}
    {%- elif message.tool_calls -%}
        {%- if message.tool_calls | length != 1 -%}
            {{- raise_exception('This model only supports single tool-calls at once!') -}}
        {%- endif -%}
        {%- set call = message.tool_calls[0].function -%}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' -}}
        {{- (call.arguments | tojson) + '}<|eot_id|>' -}}
    {%- else -%}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' -}}
        {%- if tools and loop.first -%}
            {%- for tool in tools -%}{{- (tool | tojson) + '\\n' -}}{%- endfor -%}
        {%- endif -%}
        {{- (message.content | trim) + '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""


def byte_tokenizer(chat_template: str | None, specials: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Ids 0 to 255 are bytes; the special tokens follow."""
    alphabet = sorted(ByteLevel.alphabet())  # a printable byte is itself; the others are moved behind 255, in order
    moved = [byte for byte in range(256) if chr(byte) not in alphabet]
    vocab = {token: ord(token) if ord(token) < 256 else moved[ord(token) - 256] for token in alphabet}
    vocab |= {token: 256 + index for index, token in enumerate(specials)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=specials[0], eos_token=specials[1])
    fast.chat_template = chat_template
    return fast

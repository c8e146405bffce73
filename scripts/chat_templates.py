"""Which chat templates are accepted, and how: `python scripts/chat_templates.py FOLDER ...` prints a table for each folder.

Without a folder it takes the templates in an installed TRL (`pip install --no-deps trl`). A byte tokenizer that holds the special
tokens which a template names stands for the family's own.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from mentor_pl.chat.choice import TOOLS_AS_TEXT
from mentor_pl.chat.detection import detect
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.chat.tokens import PieceEncoder
from mentor_pl.errors import ChatFormatError

_SPECIAL = re.compile(
    r"""<\|[^<>|\s'"]{1,40}\|>|<\|"\|>|<｜[^<>｜\s]{1,40}｜>|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|ARGS|CALL_ID|"""
    r"""SYSTEM_PROMPT|THINK|MODEL_SETTINGS)\]|</?(?:start_of_turn|end_of_turn|end_of_utterance|think|tool_call|tool_response|"""
    r"""arg_key|arg_value|minimax:tool_call|seed:[a-z_]+|beginning_of_sentence|end_of_sentence|assistant|user|system)>|"""
    r"""<\|?(?:turn|channel|tool|tool_call|tool_response|tool_result)\|?>|\[e~\[|\]~b\]|\]~!b\[|\[\|\/?[a-z_]{1,30}\|\]"""
)


def trl_templates() -> list[Path]:
    """Return the templates of an installed TRL, which is not imported; none where there is none."""
    found = importlib.util.find_spec("trl")
    return sorted(Path(found.origin).parent.glob("chat_templates/*.jinja")) if found and found.origin else []


def tokenizer_for(source: str, name: str = "synthetic", more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose ids 0 to 255 are bytes; `<pad>`, `</s>`, `<s>`, what the template names and `more` follow."""
    alphabet = sorted(ByteLevel.alphabet())
    moved = [byte for byte in range(256) if chr(byte) not in alphabet]
    vocab = {token: ord(token) if ord(token) < 256 else moved[ord(token) - 256] for token in alphabet}
    specials = list(dict.fromkeys(["<pad>", "</s>", "<s>", *_SPECIAL.findall(source), *more]))
    core = Tokenizer(BPE(vocab=vocab | {token: 256 + i for i, token in enumerate(specials)}, merges=[]))
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    core.decoder = ByteLevelDecoder()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", bos_token="<s>")
    made.chat_template, made.name_or_path = source, name
    return made


def outcome(source: str) -> str:
    """Say how a template is used: its format, "as text of its turns", or "refused"."""
    tokenizer = tokenizer_for(source)
    try:
        return detect(tokenizer, PieceEncoder(tokenizer), source).form.name
    except ChatFormatError:
        pass
    try:
        protocol = ChatProtocol(tokenizer)
    except ChatFormatError:
        return "refused"
    as_text = TOOLS_AS_TEXT in protocol.detected.template.source
    return "as text of its turns" if as_text else f"{protocol.format.name}, adapted"


def main() -> None:
    """Print a table for each folder."""
    folders = {folder: sorted(Path(folder).glob("*.jinja")) for folder in sys.argv[1:]} or {"TRL": trl_templates()}
    for folder, files in folders.items():
        by_outcome: dict[str, list[str]] = defaultdict(list)
        for file in files:
            by_outcome[outcome(file.read_text(encoding="utf-8"))].append(file.stem)
        print(f"\n{folder}: {len(files)} templates\n\n| calls are read as | templates | |\n|---|---|---|")
        for how, names in sorted(by_outcome.items(), key=lambda item: -len(item[1])):
            print(f"| {how} | {len(names)} | {', '.join(names)} |")


if __name__ == "__main__":
    main()

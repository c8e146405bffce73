"""GGUF files to ordinary Hugging Face folders, once for each file."""

from __future__ import annotations

import hashlib
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from huggingface_hub.constants import HF_HOME
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.hub import cached_file

from mentor_pl.errors import StudentError
from mentor_pl.students.export import export_student

_log = logging.getLogger(__name__)


def converted_gguf(path: str, gguf_file: str, *, dtype: torch.dtype = torch.float32, cache: Path | None = None) -> Path:
    """Return the Hugging Face folder made from a GGUF file; make it first where it does not exist.

    Processes that ask at once wait for the first of them. A file that changes (in size or time),
    another `dtype` or another transformers version makes another folder.

    Args:
        path: The folder that holds the file, or a hub id.
        gguf_file: Name of the file in it.
        dtype: Of the weights on disk. Float32 keeps what the file holds exactly.
        cache: Where the folders lie; by default `mentor-pl/gguf` beside Hugging Face's own caches,
            so that HF_HOME moves them all.

    Raises:
        StudentError: The file does not exist or cannot be read, or the `gguf` package is missing.
    """
    if find_spec("gguf") is None:
        raise StudentError(
            f"student {path!r}: reading {gguf_file!r} takes the package gguf; pip install 'mentor-pl[gguf]'"
        )
    file = _find(path, gguf_file)
    stat = file.stat()
    origin = f"{file} {stat.st_size} {stat.st_mtime_ns} {dtype} {transformers.__version__}"
    cache = Path(HF_HOME, "mentor-pl", "gguf") if cache is None else cache
    folder = cache / f"{file.stem}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            _log.info("converting %s into %s; this is done once", file, folder)
            try:
                tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
                name_special_tokens(tokenizer, file)
                model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
            except Exception as failure:  # what a broken file raises depends on the byte that is broken
                raise StudentError(f"student {path!r}: {gguf_file!r} cannot be read as GGUF: {failure}") from failure
            export_student(model, tokenizer, folder)
    return folder


def name_special_tokens(tokenizer: Any, file: Path) -> None:
    """Give a tokenizer the special tokens that its GGUF file names.

    Transformers 5.17 takes a Llama's begin of sequence for its end, and no padding at all;
    SmolLM2's file is of this kind.
    """
    from gguf import GGUFReader, Keys

    fields = GGUFReader(file).fields
    keys = {
        "bos_token": Keys.Tokenizer.BOS_ID,
        "eos_token": Keys.Tokenizer.EOS_ID,
        "unk_token": Keys.Tokenizer.UNK_ID,
        "pad_token": Keys.Tokenizer.PAD_ID,
    }
    for name, key in keys.items():
        if key in fields:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(int(fields[key].parts[-1][0])))


def _find(path: str, gguf_file: str) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / gguf_file).is_file():
            there = ", ".join(sorted(file.name for file in folder.glob("*.gguf"))) or "none"
            raise StudentError(
                f"student {path!r}: the folder holds no file {gguf_file!r}; set model.student's `gguf_file` to one of its GGUF "
                f"files: {there}"
            )
        return (folder / gguf_file).resolve()
    try:
        return Path(str(cached_file(path, gguf_file))).resolve()
    except OSError as failure:
        raise StudentError(
            f"student {path!r} (no folder of that name, so taken as a hub id): {gguf_file!r} cannot be had: {failure}"
        ) from failure

"""The function-calling data: which cases are trained on, which are held out, and which are out of domain."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass

from mentor_pl_bfcl.package import data_folder
from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.reference import Reference
from mentor_pl.references.converters.bfcl import bfcl


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much of a category is used.

    Attributes:
        warm_start: Cases that the warm start imitates.
        train: Other cases, which the arms are trained on.
        held_out: Cases that are evaluated.
    """

    warm_start: int = 0
    train: int = 0
    held_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Which cases are used. They are drawn from the short ones of a category, in an order that depends on its name only.

    Attributes:
        max_prompt_tokens: Cases with longer prompts are left out.
        max_solution_tokens: Cases with longer solutions are left out.
        in_domain: Categories that are trained on, and evaluated on other cases.
        out_of_domain: Categories that are only evaluated.
    """

    max_prompt_tokens: int
    max_solution_tokens: int
    in_domain: Mapping[str, Share]
    out_of_domain: Mapping[str, Share]


def draw_cases(splits: Splits, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Reference]]:
    """Draw `warm_start`, `train` and the cases of each category that is evaluated. No case is in two of them."""
    protocol = ChatProtocol(tokenizer)
    files: dict[str, list[Reference]] = {"warm_start": [], "train": []}
    for category, share in {**splits.in_domain, **splits.out_of_domain}.items():
        cases = iter(_short_cases(category, protocol, splits))
        parts = {category: share.held_out, "warm_start": share.warm_start, "train": share.train}
        for name, wanted in parts.items():
            drawn = list(itertools.islice(cases, wanted))
            if len(drawn) < wanted:
                raise ValueError(f"{category} has too few short cases for {share}")
            files.setdefault(name, []).extend(drawn)
    return files


def _short_cases(category: str, protocol: ChatProtocol, splits: Splits) -> list[Reference]:
    converted = bfcl(data_folder() / f"BFCL_v4_{category}.json")
    cases = [one for one in converted if isinstance(one, Reference)]
    short = [
        one
        for one in cases
        if len(protocol.prompt_ids(one.prompt, one.tools)) <= splits.max_prompt_tokens
        and len(protocol.assistant_ids(one.messages[0])) <= splits.max_solution_tokens
    ]
    random.Random(f"evidence/{category}").shuffle(short)
    return short

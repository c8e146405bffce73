"""The student that sees the reference judges the student that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mentor_pl.errors import ConfigError
from mentor_pl.guidance.token_teachers import AskedSequence, Scoring, TokenTeacher
from mentor_pl.messages import Message
from mentor_pl.reference import Reference


class InformedSelf(TokenTeacher):
    """The student's present weights, with the reference shown in the prompt: context distillation, arXiv:2209.15189.

    No second model is needed. It helps a student that can read a solution and act on it; one that
    cannot learns nothing from it. Prompts without a solution, and those that are too long with it,
    are left out.

    Args:
        show: The teacher's whole `solution`, or its `answer` alone.
        text: Put behind the prompt's last message, with `{shown}` for what is shown.
    """

    def __init__(
        self,
        show: Literal["solution", "answer"] = "solution",
        text: str = "\n\nThis is how it was solved before:\n{shown}",
    ) -> None:
        if "{shown}" not in text:
            raise ConfigError(f"InformedSelf.text is {text!r}; it must say where the solution goes: {{shown}}")
        self.show = show
        self.text = text

    def check(self, tokenizer: PreTrainedTokenizerBase, temperature: float) -> None:
        """See `TokenTeacher.check`; the student has its own tokenizer."""

    def logprobs(self, sequences: Sequence[AskedSequence], scoring: Scoring) -> list[Tensor | None]:
        """See `TokenTeacher.logprobs`."""
        informed = [self._informed(sequence, scoring) for sequence in sequences]
        found = iter(scoring.logprobs([sequence for sequence in informed if sequence is not None]))
        return [None if sequence is None else next(found) for sequence in informed]

    def _informed(self, sequence: AskedSequence, scoring: Scoring) -> AskedSequence | None:
        shown = next((text for reference in sequence.references if (text := self._shown(reference))), "")
        if not shown:
            return None
        reference = sequence.references[0]
        *before, last = reference.prompt
        prompt = (*before, replace(last, content=last.content + self.text.format(shown=shown)))
        prompt_ids = torch.tensor(scoring.prompt_ids(prompt, reference), dtype=torch.int64)
        own = slice(sequence.prompt_length, None)
        token_ids = torch.cat([prompt_ids, sequence.token_ids[own]])
        if len(token_ids) > scoring.context_of():
            return None
        return replace(
            sequence,
            token_ids=token_ids,
            asked=torch.cat([torch.zeros(len(prompt_ids), dtype=torch.bool), sequence.asked[own]]),
            prompt_length=len(prompt_ids),
        )

    def _shown(self, reference: Reference) -> str:
        if self.show == "answer":
            return reference.answer
        return "\n".join(line for message in reference.messages for line in _lines(message))


def _lines(message: Message) -> list[str]:
    """Write a message down: its words, and each call as `name(key=value, ...)`."""
    calls = [
        f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"
        for call in message.tool_calls
    ]
    said = message.content.strip()
    return [*([f"-> {said}" if message.role == "tool" else said] if said else []), *calls]

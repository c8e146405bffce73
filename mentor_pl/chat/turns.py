"""What a template writes around an assistant's turn: its header, the token that ends it, its marks of thought, and what follows."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from mentor_pl.chat.formats.markers import loose
from mentor_pl.chat.slots import Followed, fill_slots, slot, split_at_slots
from mentor_pl.chat.template import MARK, ConversationTemplate, Rendered
from mentor_pl.chat.thoughts import ThoughtTags, learn_tags, shared_start, split_thought
from mentor_pl.chat.tokens import PieceEncoder
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall

_USER = Message(role="user", content="probe_user")
_THOUGHT = "\ue003"


class TurnShape:
    """Learned from a template by rendering small conversations.

    Args:
        template: The student's.
        encoder: Knows the added tokens.
        eos_token: The tokenizer's end of sequence.

    Raises:
        ChatFormatError: The template does not show what an assistant says, or nothing ends its
            turns.
    """

    def __init__(self, template: ConversationTemplate, encoder: PieceEncoder, eos_token: str | None) -> None:
        self._template, self._encoder = template, encoder
        self.header = template.render([_USER], add_generation_prompt=True).text
        """A conversation up to the next assistant header."""
        tokens = encoder.added_in(self.header)
        self._opening = self.header[self.header.rindex(tokens[-1]) :].strip() if tokens else ""
        self.spoken_end = self._spoken_end(eos_token)
        """Token that ends a turn without calls."""
        self.thought = learn_tags(
            self._thinking_turn(_THOUGHT), self.header, self._encoder.added, thought=_THOUGHT, words=MARK
        )
        self._lead, self._tail = self._around_words()

    def turn(
        self,
        message: Message,
        *,
        end: str | None = None,
        before: Sequence[Message] = (),
        thought: ThoughtTags | None = None,
    ) -> Rendered:
        """Return what a student would have sampled for this message.

        Args:
            message: Of an assistant.
            end: The token that ends it: the text is cut there.
            before: What follows the question and comes before it.
            thought: As the header before the turn leaves it; by default that behind a question.
        """
        thought = thought or self.thought
        if message.reasoning and thought.closed:
            message = replace(message, reasoning="")
        rendered = self._template.render([_USER, *before, message], add_generation_prompt=False)
        header = self.header
        if before:
            header = self._template.render([_USER, *before], add_generation_prompt=True).text
        # Some templates put more into the header of a past turn than into that of the next one, or less.
        start = shared_start(header, rendered.text)
        text, contents = self._without_header(rendered.text[start:], header), rendered.contents
        if end is not None and end in text:
            text = text[: text.rindex(end)]
        if thought.opened and not self.thought.opened:
            text = text.lstrip().removeprefix(thought.blank_open.strip()).lstrip("\n")
        elif self.thought.opened and not thought.opened and thought.close in text:
            text = thought.blank_open + text
        empty = re.match(rf"(\s*{re.escape(thought.open)}\s*)?\s*{re.escape(thought.close)}\s*", text)
        if thought.closed and empty and not empty[1]:
            # The next header closes the thought that a past turn closes itself.
            text = text.lstrip().removeprefix(thought.close)
        elif message.reasoning and not thought.rendered:
            opening, closing = "" if thought.opened else thought.blank_open, thought.blank_close
            if empty:  # the template writes an empty thought, which takes ours
                opening, closing = "" if thought.opened else empty[1] or opening, empty[0].removeprefix(empty[1] or "")
                text = text[empty.end() :]
            text, contents = f"{opening}{slot(len(contents))}{closing}{text}", (*contents, message.reasoning)
        elif thought.opened and thought.close not in text:
            text = thought.blank_close + text.lstrip("\n")  # the header opened a thought that this turn does not close
        return Rendered(text=text, contents=contents)

    def _without_header(self, text: str, header: str) -> str:
        """Return a past turn without the end of its header, which some templates set apart by other blanks than the next one's."""
        for start in sorted(header.rfind(token) for token in self._encoder.added_in(header)[-3:]):
            if again := re.match(rf"\s*{loose(header[start:])}", text):
                return text[again.end() :]
        return text

    def thought_behind(self, following: Sequence[Followed]) -> ThoughtTags:
        """Return the tags as a header leaves them: some templates open a thought behind tools' results only, or only behind a question.

        Args:
            following: What follows a turn, through the next header.
        """
        header = next((piece for piece in reversed(following) if isinstance(piece, str)), "").rstrip()
        alike = bool(self._opening) and header.endswith(self._opening)
        return replace(self.thought, opened=self.thought.opened if alike else header.endswith(self.thought.open))

    def words(self, spoken: str) -> str:
        """Return a turn behind its reasoning without the tags that the template puts around all that is said.

        Args:
            spoken: As sampled.
        """
        if self._opening and (stripped := spoken.lstrip()).startswith(self._opening):
            spoken = stripped.removeprefix(self._opening)
        if self._lead and (stripped := spoken.lstrip()).startswith(self._lead):
            spoken = stripped.removeprefix(self._lead)
        if self._tail and (stripped := spoken.rstrip()).endswith(self._tail):
            spoken = stripped.removesuffix(self._tail)
        return spoken

    def call_end(self, call: ToolCall) -> str:
        """Return the token that ends a turn with calls.

        Args:
            call: With `MARK` in its last argument.

        Raises:
            ChatFormatError: The template does not show calls.
        """
        second = ToolCall(call_id="call_1", name="probe_second", arguments=call.arguments)
        try:
            both = self._after_mark([Message(role="assistant", tool_calls=(call, second))], index=0).text
            within = set(self._encoder.added_in(both.split(MARK)[0])) if MARK in both else set[str]()
        except ChatFormatError:  # one call a turn
            within = set()
        alone = self._after_mark([Message(role="assistant", tool_calls=(call,))]).text
        result = Message(role="tool", content="x", tool_call_id=call.call_id, name=call.name)
        answered = self._after_mark([Message(role="assistant", tool_calls=(call,)), result], to_slot=True).text
        common = os.path.commonprefix([alone, answered])
        ends = [token for token in self._encoder.added_in(common) if token not in within]
        if self.spoken_end in ends or not ends and self.spoken_end in self._encoder.added_in(alone):
            return self.spoken_end
        following = [token for token in self._encoder.added_in(answered[len(common) :]) if token not in within]
        return ends[-1] if ends else following[0] if following else self.spoken_end

    def after_calls(self, calls: Sequence[ToolCall], end: str, before: Sequence[Message] = ()) -> list[Followed]:
        """Return what follows a turn that made these calls, behind its end token: pieces, with slots numbered by result.

        Args:
            calls: Only their names and ids matter.
            end: The token that ended the turn.
            before: What follows the question and comes before the turn.
        """
        marked = tuple(replace(call, arguments={"value": MARK}) for call in calls)
        results = [Message(role="tool", content="x", tool_call_id=call.call_id, name=call.name) for call in calls]
        try:
            after = self._after_mark([*before, Message(role="assistant", tool_calls=marked), *results], prompt=True)
        except ChatFormatError:
            if len(calls) == 1:
                raise
            # Llama 3 refuses several calls in a turn, but students make them. Only what comes behind the turn is wanted.
            after = self._after_mark([*before, Message(role="assistant", tool_calls=marked[:1]), *results], prompt=True)
        alone = self._after_mark([*before, Message(role="assistant", tool_calls=marked[:1])])
        said_before = 1 + sum(message.role != "assistant" for message in before)
        return self._behind(after, alone.text, end, slots=range(said_before, said_before + len(calls)))

    def after_words(self, end: str) -> list[Followed]:
        """Return what follows a turn without calls where the user speaks again: pieces, with slot 0 for what the user says.

        Args:
            end: The token that ended the turn.
        """
        said = Message(role="assistant", content=MARK)
        after, alone = self._after_mark([said, _USER], prompt=True), self._after_mark([said])
        return self._behind(after, alone.text, end, slots=range(1, 2))

    def environment_marks(self, *, student: Sequence[str], pieces: Sequence[Followed]) -> set[str]:
        """Return the added tokens that only the environment writes.

        Args:
            student: Turns as a student may write them.
            pieces: What follows turns.
        """
        own = {token for text in student for token in self._encoder.added_in(text)}
        written = {token for piece in pieces if isinstance(piece, str) for token in self._encoder.added_in(piece)}
        return written - own - {self.spoken_end, self.thought.open, self.thought.close}

    def _after_mark(
        self, messages: Sequence[Message], *, index: int = -1, prompt: bool = False, to_slot: bool = False
    ) -> Rendered:
        """Return what stands behind the last mark (or the first one) of a rendered conversation, up to its first slot if asked."""
        rendered = self._template.render([_USER, *messages], add_generation_prompt=prompt, slots=True)
        text = rendered.text
        if MARK not in text:
            raise ChatFormatError(f"{self._template.whose} does not show what an assistant says or calls")
        text = text[(text.index(MARK) if index == 0 else text.rindex(MARK)) + 1 :]
        return replace(rendered, text=str((split_at_slots(text) or [""])[0]) if to_slot else text)

    def _behind(self, after: Rendered, alone: str, end: str, *, slots: range) -> list[Followed]:
        """Cut what follows a turn's last words behind the turn.

        Args:
            after: What follows.
            alone: What follows where the conversation ends there.
            end: The token that ended the turn.
            slots: Those that stay, numbered from 0; the others (names that spell tags) are filled.
        """
        pieces = split_at_slots(after.text)
        before = str(pieces.pop(0)) if pieces and isinstance(pieces[0], str) else ""
        if end in self._encoder.added_in(before):
            cut = before.index(end) + len(end)
        else:
            # The template ends past turns otherwise than the last one, or by no token at all.
            cut = len(os.path.commonprefix([before, alone]))
            token = next(iter(self._encoder.added_in(before[cut:])), None)
            if token is not None and end in self._encoder.added_in(alone[cut:]) and before[cut:].startswith(token):
                cut += len(token)
        rest = [before[cut:], *pieces]
        return [
            piece
            if isinstance(piece, str)
            else (piece[0] - slots.start, piece[1])
            if piece[0] in slots
            else fill_slots([piece], after.contents)[0]
            for piece in rest
            if piece
        ]

    def _spoken_end(self, eos_token: str | None) -> str:
        alone = self._after_mark([Message(role="assistant", content=MARK)]).text
        answered = self._after_mark([Message(role="assistant", content=MARK), _USER], to_slot=True).text
        common = self._encoder.added_in(os.path.commonprefix([alone, answered]))
        ask = self._template.render([_USER], add_generation_prompt=False)
        if ask.text == self.header:  # it writes the next header whether asked or not
            ends_user = self._encoder.added_in(self.header.rpartition(_USER.content)[2])[:1]
            common = ends_user if ends_user and ends_user[0] in common else common[:1]
        elif eos_token in common:
            return eos_token  # more may stand in common: what begins the next turn, whoever speaks
        found = common[-1:] or self._encoder.added_in(alone)[:1] or self._encoder.added_in(answered)[:1]
        if found:
            return found[0]
        if eos_token is None:
            raise ChatFormatError(
                f"nothing ends an assistant turn in {self._template.whose}, and its tokenizer has no eos token; set `eos_token` "
                "in its tokenizer_config.json"
            )
        return eos_token

    def _thinking_turn(self, thought: str) -> str:
        """Return a rendered conversation whose last turn thinks before it says the mark; "" where the template refuses that."""
        said = Message(role="assistant", content=MARK, reasoning=thought)
        try:
            return self._template.render([_USER, said], add_generation_prompt=False).text
        except ChatFormatError:
            return ""

    def _around_words(self) -> tuple[str, str]:
        rendered = self.turn(Message(role="assistant", content=MARK), end=self.spoken_end)
        before, _, behind = rendered.text.partition(MARK)
        return split_thought(before, replace(self.thought, opened=False))[1].strip(), behind.strip()

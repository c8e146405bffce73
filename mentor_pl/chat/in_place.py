"""Templates that change lists in place, which transformers' sandbox refuses: the same, written without."""

from __future__ import annotations

import re

_CHANGE = re.compile(
    r"\{%(?P<before>[-+]?)\s*(?:do\s+|set\s+(?P<target>\w+)\s*=\s*)(?P<owner>[\w.]+)\.(?P<how>append|extend|update|pop)"
    r"\((?P<given>(?:(?!%\}).)*?)\)\s*(?P<after>[-+]?)%\}",
    re.DOTALL,
)
_TAG = re.compile(r"\{[%{].*?[%}]\}", re.DOTALL)
_TEXT = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_POPPED = {"": ("[-1]", "[:-1]"), "-1": ("[-1]", "[:-1]"), "0": ("[0]", "[1:]")}


def without_changes_in_place(source: str) -> str:
    """Return a template in which what was appended, popped or updated in place is assigned anew.

    Kimi K2's templates keep the ids of calls so. A list that a loop changes becomes an attribute of
    a namespace: what a loop assigns to a name is lost behind it.

    Args:
        source: Jinja source.
    """
    names = {match["owner"] for match in _CHANGE.finditer(source) if "." not in match["owner"]}
    for name in sorted(names):
        if not re.search(rf"\{{%[-+]?\s*for\s[^%]*?\b{name}\b[^%]*?\sin\s", source):
            source = _held_in_namespace(source, name)
    return _CHANGE.sub(_assigned, source)


def _assigned(match: re.Match[str]) -> str:
    owner, given = match["owner"], match["given"].strip()
    opening, closing = f"{{%{match['before']} set", f"{match['after']}%}}"
    if match["how"] == "append":
        return f"{opening} {owner} = {owner} + [{given}] {closing}"
    if match["how"] == "extend":
        return f"{opening} {owner} = {owner} + {given} {closing}"
    if match["how"] == "update":
        return f"{opening} {owner} = dict({owner}, **{given}) {closing}"
    if given not in _POPPED:
        return match[0]
    taken, left = _POPPED[given]
    return f"{opening} {match['target'] or '_'} = {owner}{taken} %}}{{% set {owner} = {owner}{left} {closing}"


def _held_in_namespace(source: str, name: str) -> str:
    def in_tag(tag: re.Match[str]) -> str:
        made = re.fullmatch(rf"(\{{%[-+]?\s*set\s+{name}\s*=)(.*?)(\s*[-+]?%\}})", tag[0], re.DOTALL)
        if made and not _CHANGE.fullmatch(tag[0]):
            return f"{made[1]} namespace(held={used(made[2]).strip()}){made[3]}"
        return used(tag[0])

    def used(code: str) -> str:
        pattern = rf"{_TEXT}|(?<![\w.]){name}\b(?!\s*=(?!=))"
        return re.sub(pattern, lambda found: f"{name}.held" if found[0] == name else found[0], code)

    given = (
        ""
        if re.search(rf"\{{%[-+]?\s*set\s+{name}\s*=", source)
        else f"{{%- set {name} = namespace(held={name}) -%}}\n"
    )
    return given + _TAG.sub(in_tag, source)

"""Tokenizers that lack what others have: each is used all the same, or refused with a remedy that works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from mentor_pl.chat.examination import examine_chat
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.errors import ChatFormatError, StudentError
from mentor_pl.students.full import FullStudent

MakeFolder = Callable[..., Path]
NOTHING_ENDS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


def change(file: Path, **values: object) -> None:
    config = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_an_end_that_only_the_generation_config_knows_ends_turns(make_folder: MakeFolder) -> None:
    folder = make_folder()
    change(folder / "tokenizer_config.json", eos_token=None)
    (folder / "chat_template.jinja").write_text(NOTHING_ENDS)
    GenerationConfig(eos_token_id=[2, 7]).save_pretrained(folder)
    tokenizer = FullStudent(str(folder)).load_tokenizer()
    assert tokenizer.eos_token == "<|im_end|>"
    assert ChatProtocol(tokenizer).stop_token_ids == (2, 7)


def test_hermes_is_no_remedy_where_nothing_ends_a_turn(make_folder: MakeFolder) -> None:
    folder = make_folder()
    change(folder / "tokenizer_config.json", eos_token=None)
    (folder / "chat_template.jinja").write_text(NOTHING_ENDS)
    (folder / "generation_config.json").unlink()
    core = json.loads((folder / "tokenizer.json").read_text().replace("<|im_", "<|turn_"))
    (folder / "tokenizer.json").write_text(json.dumps(core))
    with pytest.raises(ChatFormatError) as refused:
        FullStudent(str(folder)).load_tokenizer()
    assert "set `eos_token` in its tokenizer_config.json" in str(refused.value) and "'hermes'" not in str(refused.value)
    change(folder / "tokenizer_config.json", eos_token="<|turn_end|>")
    FullStudent(str(folder)).load_tokenizer()


def test_a_tokenizer_without_special_tokens_is_told_how_to_get_some(make_folder: MakeFolder) -> None:
    folder = make_folder()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / file).unlink()
    PreTrainedTokenizerFast(tokenizer_object=core).save_pretrained(folder)
    added = {"pad_token": "<pad>", "eos_token": "<eos>"}
    with pytest.raises(StudentError) as refused:
        FullStudent(str(folder)).load_tokenizer()
    assert f"tokenizer.add_special_tokens({added})" in str(refused.value)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    tokenizer.add_special_tokens(added)
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    FullStudent(str(folder)).load_tokenizer()


def test_of_templates_under_other_names_the_first_is_taken(make_folder: MakeFolder) -> None:
    folder = make_folder()
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "chat", "template": template}, {"name": "rag", "template": NOTHING_ENDS}]
    change(folder / "tokenizer_config.json", chat_template=named)
    assert FullStudent(str(folder)).load_tokenizer().chat_template == template


@pytest.mark.parametrize(
    ("normalizer", "level"),
    [
        ({"type": "Lowercase"}, "note"),
        ({"type": "Replace", "pattern": {"String": '"'}, "content": "'"}, "fault"),
    ],
)
def test_a_tokenizer_that_changes_text_is_found(make_folder: MakeFolder, normalizer: object, level: str) -> None:
    folder = make_folder()
    change(folder / "tokenizer.json", normalizer=normalizer)
    findings = {f.topic: f for f in examine_chat(ChatProtocol(FullStudent(str(folder)).load_tokenizer()))}
    assert findings["round trip"].level == level
    assert "does not give back the text" in findings["round trip"].text


def test_code_in_a_models_folder_is_not_run_and_nobody_is_asked(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder()
    change(
        folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}
    )

    def ask(_: str = "") -> str:
        raise AssertionError("somebody is asked")

    monkeypatch.setattr("builtins.input", ask)
    with pytest.raises(StudentError, match=r"its model wants code from its own folder .*\(a plugin\)"):
        FullStudent(str(folder)).load_model()

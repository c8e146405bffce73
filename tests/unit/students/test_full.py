from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.errors import ChatFormatError, StudentError
from mentor_pl.students.chat_template import read_chat_template
from mentor_pl.students.export import export_student
from mentor_pl.students.full import FullStudent

MakeFolder = Callable[..., Path]


def refusal(student: FullStudent) -> str:
    with pytest.raises(StudentError) as refused:
        student.load_tokenizer()
    return str(refused.value)


def change_tokenizer(folder: Path, **values: str | None) -> None:
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config.update(values)
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_everything_is_trainable_and_in_training_mode(make_folder: MakeFolder) -> None:
    model = FullStudent(str(make_folder())).load_model()
    assert model.training and all(module.training for module in model.modules())
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in model.parameters())
    assert model.config._attn_implementation == "sdpa"


def test_dtype_and_attention_are_keys(make_folder: MakeFolder) -> None:
    model = FullStudent(str(make_folder()), dtype="bfloat16", attn_implementation="eager").load_model()
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.config._attn_implementation == "eager"


def test_gradient_checkpointing_leaves_the_gradients_as_they_are(make_folder: MakeFolder) -> None:
    folder = str(make_folder())
    ids = torch.arange(3, 35).view(1, 32)
    gradients = []
    for checkpointing in (False, True):
        model = FullStudent(folder, gradient_checkpointing=checkpointing).load_model()
        assert model.is_gradient_checkpointing is checkpointing
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append(model.get_input_embeddings().weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_tokenizer_is_the_folders_own(make_folder: MakeFolder) -> None:
    tokenizer = FullStudent(str(make_folder())).load_tokenizer()
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer.encode("a<|im_end|>", add_special_tokens=False) == [
        3 + 64,
        2,
    ]  # "a" is the 65th of the byte alphabet


def test_missing_folder() -> None:
    assert refusal(FullStudent("./no/such/student")) == (
        "student './no/such/student': there is no such folder; set model.student's `path` to a Hugging Face model folder, a hub id "
        "such as 'Qwen/Qwen2.5-0.5B-Instruct', or 'embedded:student'"
    )


def test_a_name_that_is_no_folder_is_tried_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal(FullStudent("nobody/no-such-student"))
    assert message.startswith(
        "student 'nobody/no-such-student' (no folder of that name, so taken as a hub id): its tokenizer cannot"
    )


def test_folder_without_a_model(tmp_path: Path) -> None:
    message = refusal(FullStudent(str(tmp_path)))
    assert message == (
        f"student {str(tmp_path)!r}: the folder holds no config.json, so it is not a Hugging Face model folder; set model.student's "
        "`path` to one (for a checkpoint of a run, export it first)"
    )


def test_unknown_attention_implementation(make_folder: MakeFolder) -> None:
    folder = make_folder()
    with pytest.raises(StudentError, match=f"student '{folder}': its model cannot be loaded: .*telepathy"):
        FullStudent(str(folder), attn_implementation="telepathy").load_model()


def test_without_a_chat_template_it_gets_chatml_where_it_has_the_tokens(make_folder: MakeFolder) -> None:
    folder = make_folder()
    hermes = FullStudent(str(folder), chat_template="hermes").load_tokenizer().chat_template
    (folder / "chat_template.jinja").unlink()
    assert FullStudent(str(folder)).load_tokenizer().chat_template == hermes
    assert "<tool_call>" in hermes


def test_a_template_that_knows_no_tools_gets_them_as_text(make_folder: MakeFolder, tmp_path: Path, caplog) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}<|im_start|>{{ m['role'] + ': ' + m['content'] }}<|im_end|>{% endfor %}")
    tokenizer = FullStudent(str(make_folder()), chat_template=str(file)).load_tokenizer()
    assert file.read_text() in tokenizer.chat_template
    assert "written as text of its turns" in caplog.text
    tool = {"type": "function", "function": {"name": "add", "description": "", "parameters": {}}}
    text = tokenizer.apply_chat_template([{"role": "user", "content": "2+3?"}], tools=[tool], tokenize=False)
    assert text.startswith("<|im_start|>system: You may call functions.") and text.endswith(
        "<|im_start|>user: 2+3?<|im_end|>"
    )
    asked = [{"role": "user", "content": "2+3?"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("2+3?<|im_end|><|im_start|>assistant: ")  # the template itself writes no header


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ tools }}", "leaves out what a message of role 'user' says: 'probe_user'"),
        ("{{ raise_exception('only users speak') }}", "cannot render a conversation of (user): only users speak"),
    ],
)
def test_templates_that_cannot_do_it(make_folder: MakeFolder, tmp_path: Path, template: str, fault: str) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(template)
    folder = str(make_folder())
    with pytest.raises(ChatFormatError) as refused:
        FullStudent(folder, chat_template=str(file)).load_tokenizer()
    assert str(refused.value) == (
        f"student {folder!r}: the chat template of {folder!r} {fault}; set model.student's `chat_template` to 'hermes' or to a "
        ".jinja file"
    )
    FullStudent(folder, chat_template="hermes").load_tokenizer()


def test_variables_of_the_template_are_written_into_it(make_folder: MakeFolder, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(read_chat_template("hermes") + "{{ '<think>\\n' if enable_thinking and add_generation_prompt }}")
    folder = str(make_folder())

    def header(**options: Any) -> str:
        tokenizer = FullStudent(folder, chat_template=str(file), **options).load_tokenizer()
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": "q"}], add_generation_prompt=True, tokenize=False
        )

    assert header(chat_template_kwargs={"enable_thinking": True}).endswith("assistant\n<think>\n")
    assert header(chat_template_kwargs={"enable_thinking": False}).endswith("assistant\n")
    with pytest.raises(
        ChatFormatError, match="sets 'thinking', which its chat template does not read; it reads enable_thinking"
    ):
        header(chat_template_kwargs={"thinking": True})


def test_tokens_without_embeddings_are_seen_before_the_model_is_loaded(make_folder: MakeFolder) -> None:
    folder = make_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 260}))
    with pytest.raises(StudentError, match=r"its model has 260 embeddings, and 1 tokens .* lie outside: 'cd' \(260\)"):
        FullStudent(str(folder)).load_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<unused>"])
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 261}))
    FullStudent(str(folder)).load_tokenizer()  # nothing uses that token


def test_stop_tokens_come_from_template_tokenizer_and_generation_config(make_folder: MakeFolder) -> None:
    folder = make_folder()
    GenerationConfig(eos_token_id=[0, 7]).save_pretrained(folder)
    tokenizer = FullStudent(str(folder)).load_tokenizer()
    assert ChatProtocol(tokenizer).stop_token_ids == (2, 0, 7)
    export_student(FullStudent(str(folder)).load_model(), tokenizer, folder.parent / "out")
    exported = GenerationConfig.from_pretrained(folder.parent / "out")
    assert set(exported.eos_token_id) == {2, 0, 7}


def test_unknown_template_name(make_folder: MakeFolder) -> None:
    message = refusal(FullStudent(str(make_folder()), chat_template="hermse"))
    assert message == (
        "chat_template 'hermse' is neither a file nor the name of a template that we ship; these are: hermes"
    )


def test_no_pad_token(make_folder: MakeFolder) -> None:
    folder = make_folder()
    change_tokenizer(folder, pad_token=None)
    assert refusal(FullStudent(str(folder))) == (
        f"student {str(folder)!r} has no pad token; set model.student's `pad_token` to a token of its vocabulary that no text uses; "
        "its special tokens are <|endoftext|>, <|im_start|>"
    )
    assert FullStudent(str(folder), pad_token="<|endoftext|>").load_tokenizer().pad_token_id == 0


def test_pad_token_that_is_the_end(make_folder: MakeFolder) -> None:
    folder = make_folder()
    change_tokenizer(folder, pad_token="<|im_end|>")
    assert refusal(FullStudent(str(folder))) == (
        f"student {str(folder)!r}: its pad token is its end-of-sequence token '<|im_end|>', so that padding could not be told from "
        "the end that it has to learn; set model.student's `pad_token` to another token; its special tokens are <|endoftext|>, "
        "<|im_start|>"
    )


def test_pad_token_out_of_the_vocabulary(make_folder: MakeFolder) -> None:
    message = refusal(FullStudent(str(make_folder()), pad_token="[PAD]"))
    assert "pad_token '[PAD]' is not in its vocabulary; its special tokens are <|endoftext|>, <|im_start|>" in message

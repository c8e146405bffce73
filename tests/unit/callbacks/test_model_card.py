"""A card is made of whatever a run's folder holds."""

import pytest

from mentor_pl.callbacks.model_card import model_card


@pytest.mark.parametrize(
    ("config", "summary"),
    [
        ("model: {student: {class_path: FullStudent}}", None),  # its data and trainer were edited away
        ("[]", None),
        ("model: [", None),
        ("", "[]"),
        ("model: {student: 3}", "{"),
    ],
)
def test_a_run_that_another_version_wrote_or_somebody_edited_has_a_card(tmp_path, caplog, config, summary):
    (tmp_path / "config.yaml").write_text(config)
    if summary is not None:
        (tmp_path / "summary.json").write_text(summary)
    card = model_card(tmp_path, steps=7)
    assert "| weight updates | 7 |" in card and "from_pretrained" in card
    assert "the model card tells no settings and results" in caplog.text

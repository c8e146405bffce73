from mentor_pl.cli.names import written_out


def test_what_is_typed_most_often_has_a_short_option() -> None:
    assert written_out(["fit", "--data.group_size", "4", "--data.max_problems=--data.group_size"]) == [
        *("fit", "--data.round.group_size", "4", "--data.evaluation_sampling.max_problems=--data.group_size")
    ]

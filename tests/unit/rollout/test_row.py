from mentor_pl.rollout.row import row_seed


def test_a_seed_depends_on_run_prompt_and_sample_only():
    seeds = {row_seed(seed, name, sample) for seed in (0, 1) for name in ("p", "q") for sample in range(8)}
    assert len(seeds) == 32
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert row_seed(0, "p", 1) == row_seed(0, "p", 1)

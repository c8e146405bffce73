"""Students meet tools: prompts in, groups of trajectories out."""

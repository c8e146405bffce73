"""Language models in the place of a user, or of a tool that cannot be run."""

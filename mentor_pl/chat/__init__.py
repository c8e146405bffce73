"""Messages to token ids, token ids to tool calls; one file per model family's format."""

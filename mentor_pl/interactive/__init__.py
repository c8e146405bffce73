"""A student in a terminal: a conversation of several questions by the protocol of training."""

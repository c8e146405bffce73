"""How families of models write tool calls; one file per grammar."""

"""From references and rollouts to weight updates: samples, batches, streams, and the two Lightning classes."""

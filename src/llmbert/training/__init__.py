"""loss → new weights: optimisers, schedules, the loop and its checkpoints."""

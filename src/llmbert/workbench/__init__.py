"""question → runs and pages: train, evaluate, compare."""

"""Learning from labelled examples: what is asked → a course → a trained model → scores."""

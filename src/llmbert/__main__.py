"""`python -m llmbert`: the same as the command `llmbert`."""

from llmbert.cli import main

main()

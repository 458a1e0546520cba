"""Requests to answers: translate, summarise, write out data, chat, classify, tag. Each module holds one task."""

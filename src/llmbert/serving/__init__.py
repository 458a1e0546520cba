"""HTTP → answers: trained runs behind OpenAI's protocol, and a page to see them at work."""

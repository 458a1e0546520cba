"""Personal data in a text: where it stands, what may stand in its place, and streams without it."""

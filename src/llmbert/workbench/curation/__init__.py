"""Documents → fewer, cleaner, safer or more documents."""

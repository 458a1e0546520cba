"""Documents → fewer, cleaner or safer documents."""

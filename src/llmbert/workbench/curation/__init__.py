"""Documents → fewer, cleaner or safer documents, with a page on what was done."""

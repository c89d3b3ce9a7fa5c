"""Builds the site of the documentation: `make docs`.

The pages of `docs/` are plain Markdown, so they can be read without it.  The site adds what is taken from the code.
"""

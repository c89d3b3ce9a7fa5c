"""Whether models mean the same by the same numbers: what their configs say, and what rows stand for."""

"""The vocabulary of the output, and the rows that its embeddings are made of."""

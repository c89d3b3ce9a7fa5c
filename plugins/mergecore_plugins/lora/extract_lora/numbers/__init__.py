"""The arithmetic of an extraction: changes of weights, their singular values, and the factors of an adapter."""

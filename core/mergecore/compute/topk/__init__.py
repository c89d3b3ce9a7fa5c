"""The k largest magnitudes of a tensor, or of a whole model, exactly and in streams; read `one_tensor` first."""

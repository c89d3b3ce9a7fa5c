"""Where the numbers of a tensor come from; read `data` first, `composed` has those made of several others."""

"""What is in models, and how they differ; `comparing` goes through the weights, `kinship` says who was made of whom."""

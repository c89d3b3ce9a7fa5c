"""What commands that make adapters have in common: decompositions, the files that PEFT reads, the table of errors."""

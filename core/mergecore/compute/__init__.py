"""What a merge method is given: tensors in blocks, exact order statistics, sums, random numbers; read `group` first."""

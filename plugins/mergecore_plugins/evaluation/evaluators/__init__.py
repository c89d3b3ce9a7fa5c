"""The built-in evaluators, a module each; what they share lies beside them: `data`, `windows`."""

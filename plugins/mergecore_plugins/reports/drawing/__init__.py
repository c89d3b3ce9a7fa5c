"""Pictures of numbers as inline SVG: `dots` with intervals, `bars`, `lines`, `points`, `parallel` axes."""

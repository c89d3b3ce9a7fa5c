"""Every merge method in float64 with numpy, written from the formulas alone; nothing of mergecore is imported here."""

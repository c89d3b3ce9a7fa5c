"""What is searched: configs with ranges, and the section that says how; read `reading`, then `ranges`."""

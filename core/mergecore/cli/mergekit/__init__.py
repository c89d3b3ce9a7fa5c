"""The options of mergekit's commands, as our commands understand them; read `command` first."""

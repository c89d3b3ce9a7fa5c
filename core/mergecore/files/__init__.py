"""Files that others wrote, read strictly, and files that we write, durably; read `safe_open` and `durable` first."""

"""Parameters of methods: what is declared, the values a config gives, and the value for one tensor (`resolver`)."""

"""The page about a plan: `page.plan_report` puts it together, `places` and `parameters` read what it shows."""

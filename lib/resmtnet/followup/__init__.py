"""Two CTs of one patient: registered, their nodules paired, and how the nodules have changed."""

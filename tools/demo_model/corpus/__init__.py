"""What the demo model learns: a table of tasks, each of which draws conversations without end."""

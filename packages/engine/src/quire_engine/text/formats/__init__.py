"""How models write their reasoning and their tool calls: one file for each format, which parses and constrains it."""
